"""The demo: a short run from data to the page, and its last step with a given model and videos."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.html_pages import Page
from support.short_demo import run_short
from support.video_files import write_video
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.benchmarks.moving_things import patch_shares, scenes
from ts2net.cli import main
from ts2net.demo.record import Record
from ts2net.hub import save_hub_folder
from ts2net.search import VideoIndex
from ts2net.small_clip import small_clip_folder

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def times(folder: Path) -> dict[str, int]:
    """Modification times of the files in a folder, without `.json`, `.md` and files without an extension."""
    return {
        str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix not in ("", ".json", ".md")
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """Folder of a demo without network that Ctrl-C stopped in training, and the times of its finished files."""
    out = tmp_path_factory.mktemp("stopped") / "demo"
    code = f"from support.short_demo import run_short; from pathlib import Path; run_short(Path({str(out)!r}))"
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    while child.poll() is None and not (out / "training" / "checkpoint-10").exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    assert child.wait() != 0
    assert not (out / "model").exists()
    return out, times(out / "data") | times(out / "training" / "checkpoint-10")


@pytest.fixture(scope="module")
def demo(stopped: tuple[Path, dict[str, int]]) -> tuple[Path, str]:
    """Folder of the same demo after a second run to the end, and the printed text."""
    out, _ = stopped
    return out, run_short(out)


def test_a_stopped_demo_goes_on_where_it_was(stopped: tuple[Path, dict[str, int]], demo: tuple[Path, str]) -> None:
    """A resumed demo repeats neither the finished shards nor the steps up to the last checkpoint."""
    out, before = stopped
    assert before.items() <= (times(out / "data") | times(out / "training" / "checkpoint-10")).items()
    assert (out / "training" / "checkpoint-30").exists()


def test_demo_goes_the_whole_way(demo: tuple[Path, str]) -> None:
    """The demo prints the recalls of the card, and writes a self-contained model folder, an index and a page."""
    out, printed = demo
    figures = json.loads((out / "demo.json").read_text())["figures"]
    recall = figures["eval_text_to_video_R@1"]
    assert f"text-to-video among 6 clips: R@1 {recall:.1f} %" in printed
    assert f"| text-to-video R@1 | {round(recall, 2)} |" in (out / "model" / "README.md").read_text()
    assert f"R@1 {figures['motion_text_to_video_group_R@1']:.1f} %, by guessing 25 %" in printed
    assert re.search(r"loaded it as\s+transformers_modules\.\S+\.TS2NetModel", printed)
    assert (out / "index.html").as_uri() in printed
    assert len(VideoIndex.open(out / "index").videos()) == 6
    assert not (out / "trunk-cache").exists(), "nothing needs it any more"

    model, processor = (kind.from_pretrained(out / "model") for kind in (TS2NetModel, TS2NetProcessor))
    test = scenes("test", 6)
    videos = [str(out / "clips" / f"{scene.video_id}.mp4") for scene in test]
    scores = model(**processor(text=[scene.caption for scene in test], videos=videos)).logits_per_text
    page = Page((out / "index.html").read_text())
    answers = json.loads(page.content("script", "answers"))
    assert answers["phrases"][:6] == [scene.caption for scene in test]
    for row, hits in zip(scores, answers["hits"], strict=False):
        best = row.argsort(descending=True)
        assert [clip for clip, _ in hits] == best.tolist()
        assert [score for _, score in hits] == pytest.approx(row[best].tolist(), abs=0.0051)


def test_selected_patches_are_compared_with_what_the_clips_show(demo: tuple[Path, str]) -> None:
    """The printed share of selected patches equals that of a plain loop over frames and patches."""
    out, printed = demo
    model, processor = (kind.from_pretrained(out / "model") for kind in (TS2NetModel, TS2NetProcessor))
    on_things, total = 0, 0
    for scene in scenes("small_object", 16):
        inputs = processor(videos=[str(out / "small_object" / f"{scene.video_id}.mp4")])
        selected = model.get_video_features(**inputs).selected_token_indices[0] - 1
        shares = sum(patch_shares(scene, 7).values())
        for frame, patches in enumerate(selected.tolist()):
            on_things += sum(shares[frame][patch] >= 0.2 for patch in patches)
            total += len(patches)
    assert f"selected patches that show a thing: {100 * on_things / total:.1f} %" in printed


def test_another_query_is_answered_without_training_again(demo: tuple[Path, str]) -> None:
    out, _ = demo
    before = times(out / "model") | times(out / "training") | times(out / "data")
    printed = run_short(out, ["a <b>zebra</b> sings"])
    assert times(out / "model") | times(out / "training") | times(out / "data") == before
    assert "a <b>zebra</b> sings" in printed
    page = (out / "index.html").read_text()
    assert "<b>zebra</b>" not in page
    assert json.loads(Page(page).content("script", "answers"))["phrases"][0] == "a <b>zebra</b> sings"


def test_the_quickstart_notebook_runs_on_the_demo(demo: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of the notebook runs offline in its own kernel, and its search finds clips."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("TS2NET_DEMO", str(demo[0]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "6 clips\n" in printed
    assert "".join(printed).count(".mp4") == 3


def test_a_folder_keeps_to_its_settings(tmp_path: Path) -> None:
    """A demo folder refuses other settings, which would mix the files of two demos."""
    Record(tmp_path, {"clips": 10})
    Record(tmp_path, {"clips": 10})
    with pytest.raises(ValueError, match="other settings: delete it, or give another --out"):
        Record(tmp_path, {"clips": 20})
    (tmp_path / "demo.json").write_text("[]")
    with pytest.raises(ValueError, match=r"demo\.json: not the record of a demo"):
        Record(tmp_path, {"clips": 10})


def test_a_file_is_no_place_for_a_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as end:
        main(["demo", "--out", str(tmp_path / "file")])
    assert end.value.code == 1
    assert "is a file; expected a folder" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------------------
# One's own model and videos
# ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `dog.mp4`."""
    folder = tmp_path_factory.mktemp("built")
    model = TS2NetModel.from_clip(small_clip_folder(), num_frames=4, temporal_num_layers=2)
    save_hub_folder(model, TS2NetProcessor.from_clip(small_clip_folder(), model.config), folder / "model")
    write_video(folder / "dog.mp4")
    return folder


def test_demo_takes_real_models_and_videos(built: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With a given model, nothing is rendered or trained, and an unreadable video doesn't stop the others."""
    args = ["demo", "--model", built / "model", "--videos", "missing.mp4", built / "dog.mp4"]
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in [*args, "--text", "one", "two", "--out", tmp_path / "out"]])
    out, err = capfd.readouterr()
    assert end.value.code == 1
    assert err == "error: missing.mp4: No such file or directory\n"
    video = str(built / "dog.mp4")
    inputs = TS2NetProcessor.from_pretrained(built / "model")(text=["one", "two"], videos=[video])
    for score in TS2NetModel.from_pretrained(built / "model")(**inputs).logits_per_text[:, 0].tolist():
        assert f"{score:.2f}" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cache"]


def test_demo_accepts_only_a_model_that_brings_its_code(
    built: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A model without its own code is refused, because the demo shows that the folder is self-contained."""
    clip, video = small_clip_folder(), built / "dog.mp4"
    with pytest.raises(SystemExit) as end:
        main(["demo", "--model", str(clip), "--videos", str(video), "--text", "one", "--out", str(tmp_path / "out")])
    err = capfd.readouterr().err
    assert end.value.code == 1
    assert err.startswith(f"error: cannot load the model '{clip}': ")
    assert err.count("\n") == 1


def test_demo_refuses_what_is_no_model_before_it_makes_anything(
    built: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A mistyped model folder is reported immediately, without a request to the network."""
    with pytest.raises(SystemExit) as end:
        main(["demo", "--model", "nope", "--video", "a.mp4", "--text", "one", "--out", str(tmp_path / "out")])
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (1, "")
    assert err.startswith("error: cannot load the model 'nope': there is no folder nope")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--model", "m"], ["--video", "v"], ["--model", "m", "--video", "v"]])
def test_ones_own_videos_need_a_model_and_texts(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """`--model`, `--videos` and `--text` are only accepted together."""
    with pytest.raises(SystemExit) as end:
        main(["demo", *arguments])
    assert end.value.code == 2
    assert "are needed together" in " ".join(capfd.readouterr().err.replace("│", " ").split())
