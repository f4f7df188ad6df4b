"""The demo: clips that show what their captions say, a CLIP like any other, and the whole way to scores."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from transformers import AutoTokenizer, CLIPModel, CLIPTokenizer

from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.cli import main
from ts2net.demo.checkpoint import build_from_clip, make_clip_checkpoint
from ts2net.demo.clips import (
    ALL_SCENES,
    COLOURS,
    DEMO_SCENES,
    FRAMES_PER_SECOND,
    HEIGHT,
    SECONDS,
    WIDTH,
    Scene,
    encode_mp4,
    render,
    render_clips,
)


def places_and_areas(scene: Scene, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Centre `(T, 2)` as x and y, and area `(T,)` in pixels, of the scene's colour in its decoded clip."""
    with av.open(io.BytesIO(encode_mp4(render(scene, seed)))) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    masks = [abs(frame - COLOURS[scene.colour]).max(axis=-1) < 60 for frame in frames]
    centres = [np.argwhere(mask)[:, ::-1].mean(axis=0) for mask in masks]
    return np.array(centres), np.array([mask.sum() for mask in masks])


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_shapes_move_as_their_captions_say(motion: str, axis: int, sign: int) -> None:
    """Seen in the decoded file: 64 pixels along one axis, none along the other, and no change in size."""
    centres, areas = places_and_areas(Scene("red", "circle", motion))
    way = centres[-1] - centres[0]
    assert way[axis] == pytest.approx(64 * sign, abs=2)
    assert way[1 - axis] == pytest.approx(0, abs=2)
    assert areas[-1] == pytest.approx(areas[0], rel=0.05)


@pytest.mark.parametrize(("motion", "factor"), [("grow", 16), ("shrink", 1 / 16)])
def test_shapes_grow_and_shrink_as_their_captions_say(motion: str, factor: float) -> None:
    centres, areas = places_and_areas(Scene("blue", "square", motion))
    assert areas[-1] / areas[0] == pytest.approx(factor, rel=0.25)
    assert centres[-1] - centres[0] == pytest.approx([0, 0], abs=2)


def test_clips_are_h264_files_that_depend_on_the_seed_alone(tmp_path: Path) -> None:
    """Rendered twice, the files are the same; another seed gives another clip of the same scene."""
    captions = render_clips(tmp_path / "once", DEMO_SCENES[:2])
    render_clips(tmp_path / "again", DEMO_SCENES[:2])
    render_clips(tmp_path / "other", DEMO_SCENES[:2], seed=1)
    assert list(captions.values()) == ["a red circle moves to the left", "a red circle moves to the right"]
    for path in captions:
        content = path.read_bytes()
        assert content == (tmp_path / "again" / path.name).read_bytes()
        assert content != (tmp_path / "other" / path.name).read_bytes()
        with av.open(path) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", WIDTH, HEIGHT)
            assert stream.frames == FRAMES_PER_SECOND * SECONDS


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="motion must be one of left, .*, got 'sideways'"):
        Scene("red", "circle", "sideways")


def test_the_clip_checkpoint_is_one_of_transformers(tmp_path: Path) -> None:
    """Whole words for the captions, letters for the rest, and the same checkpoint from the same seed."""
    for name in ("once", "again"):
        make_clip_checkpoint(tmp_path / name, (scene.caption for scene in ALL_SCENES))
    for file in (tmp_path / "once").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "once")
    assert isinstance(tokenizer, CLIPTokenizer)
    for scene in ALL_SCENES:
        words = scene.caption.split()
        assert tokenizer.tokenize(scene.caption.upper()) == [f"{word}</w>" for word in words]
    strange = tokenizer("a zebra, 7 öre & ☃").input_ids
    assert strange.count(tokenizer.eos_token_id) == 1  # the unknown token is the end of a text, so nothing may be one
    assert strange[-1] == tokenizer.eos_token_id == len(tokenizer) - 1

    clip, report = CLIPModel.from_pretrained(tmp_path / "once", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert clip.config.text_config.eos_token_id == tokenizer.eos_token_id


def test_building_twice_gives_the_same_folder(tmp_path: Path) -> None:
    """The demo may be run again in the same place, and gives the same."""
    make_clip_checkpoint(tmp_path / "clip", (scene.caption for scene in ALL_SCENES))
    build_from_clip(tmp_path / "clip", tmp_path / "model")
    first = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    build_from_clip(tmp_path / "clip", tmp_path / "model")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == first
    assert "untrained" in (tmp_path / "model" / "README.md").read_text()


def test_demo_goes_the_whole_way(tmp_path: Path) -> None:
    """With no network and an empty cache: every clip and caption is in the table, and the scores are the model's."""
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "COLUMNS": "80",
    }
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-m", "ts2net", "demo"]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    for scene in DEMO_SCENES:
        assert f"{scene.name}.mp4" in child.stdout
        assert scene.caption[:20] in child.stdout
    assert re.search(r"as\s+transformers_modules\.\S+\.TS2NetModel", child.stdout)
    assert "untrained" in child.stdout
    assert "ts2net score --model demo/model --video demo/clips/" in child.stdout
    assert not (tmp_path / "home").exists()  # the code's copy lies in the demo's own folder, not in the user's cache

    demo = tmp_path / "demo"
    videos = [str(demo / "clips" / f"{scene.name}.mp4") for scene in DEMO_SCENES]
    inputs = TS2NetProcessor.from_pretrained(demo / "model")(text=[DEMO_SCENES[2].caption], videos=videos)
    scores = TS2NetModel.from_pretrained(demo / "model")(**inputs).logits_per_text[0]
    row = next(line for line in child.stdout.splitlines() if line.startswith(DEMO_SCENES[2].caption))
    shown = [float(number) for number in re.findall(r"-?\d+\.\d\d", row)]
    assert shown == pytest.approx(scores.tolist(), abs=0.0051)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clip`, `model` and one clip in `clips`."""
    folder = tmp_path_factory.mktemp("built")
    make_clip_checkpoint(folder / "clip", [])
    build_from_clip(folder / "clip", folder / "model")
    render_clips(folder / "clips", DEMO_SCENES[:1])
    return folder


def test_demo_takes_real_models_and_videos(built: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing is rendered or built, and a video that can't be read is named without hiding the others."""
    args = ["demo", "--model", built / "model", "--videos", "missing.mp4", built / "clips" / "red-circle-left.mp4"]
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in [*args, "--text", "one", "two", "--out", tmp_path / "out"]])
    out, err = capfd.readouterr()
    assert end.value.code == 1
    assert err == "error: missing.mp4: No such file or directory\n"
    assert "red-circle-left.mp4" in out
    assert "untrained" not in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cache"]


def test_demo_accepts_only_a_model_that_brings_its_code(
    built: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Else it would show that the installed classes work, and not that the folder stands alone."""
    clip, video = built / "clip", built / "clips" / "red-circle-left.mp4"
    with pytest.raises(SystemExit) as end:
        main(["demo", "--model", str(clip), "--videos", str(video), "--out", str(tmp_path / "out")])
    err = capfd.readouterr().err
    assert end.value.code == 1
    assert err.startswith(f"error: cannot use the model '{clip}': ")
    assert err.count("\n") == 1


def test_demo_refuses_what_is_no_model_before_it_makes_anything(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A mistyped folder is said at once, and is not looked for on the network."""
    with pytest.raises(SystemExit) as end:
        main(["demo", "--model", "nope", "--out", str(tmp_path / "out")])
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (1, "")
    assert err.startswith("error: there is no folder nope")
    assert not (tmp_path / "out").exists()
