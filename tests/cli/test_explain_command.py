"""The command `ts2net explain`: its picture, and one-line errors that leave no file behind."""

import os
from pathlib import Path

import pytest
from PIL import Image

from support.commands import Result, Run, command_runner
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net.app.explaining import explain_window
from ts2net.cli.explain import _file_name
from ts2net.explanation import explain
from ts2net.explanation.figure import draw_explanation
from ts2net.hub import save_hub_folder
from ts2net.hub.loading import load_model
from ts2net.search import VideoIndex, WindowSettings, index_videos

pytestmark = pytest.mark.slow

TEXTS = ["a dog", "a cat on a mat"]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, on a terminal of 80 columns."""
    return command_runner(capfd, monkeypatch, columns=80, before=["explain"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hub_folder(tiny_model(), tiny_processor(), tmp_path_factory.mktemp("work") / "model")


@pytest.fixture(scope="module")
def video(model: Path) -> Path:
    """A video of four seconds."""
    path = model.parent / "clip.mp4"
    write_video(path, frames=40, fps=10)
    return path


def drawn(video: Path, *, shifted: bool = False, **moment: float) -> bytes:
    """Pixels of the picture that the library draws."""
    explanation = explain(tiny_model(), tiny_processor(), video, TEXTS, **moment)
    return draw_explanation(explanation, title=video.name, shifted=shifted).tobytes()


def read(file: Path) -> bytes:
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return picture.tobytes()


def test_it_makes_the_picture_of_the_library(run: Run, model: Path, video: Path, tmp_path: Path) -> None:
    """The command draws the library's picture of a whole video, and of a moment with shifted tokens."""
    args = ["-m", model, "-v", video, "-t", *TEXTS, "--out"]
    assert run(*args, tmp_path / "whole.png") == Result(0, "", "")
    assert run(*args, tmp_path / "moment.PNG", "--start", 1, "--end", 2, "--shifted").code == 0
    assert read(tmp_path / "whole.png") == drawn(video)
    assert read(tmp_path / "moment.PNG") == drawn(video, start=1, end=2, shifted=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moment.PNG", "whole.png"]


def test_dtype_and_device_are_taken(run: Run, model: Path, video: Path, tmp_path: Path) -> None:
    """`--dtype` changes the picture, and an unknown `--device` is a one-line error."""
    args = ["-m", model, "-v", video, "-t", *TEXTS, "-o", tmp_path / "out.png"]
    assert run(*args, "--dtype", "bfloat16", "--device", "cpu").code == 0
    assert read(tmp_path / "out.png") != drawn(video)
    failed = run(*args, "--device", "toaster")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "toaster" in failed.err


def test_a_picture_is_made_anew_and_nothing_else_is_overwritten(
    run: Run, model: Path, video: Path, tmp_path: Path
) -> None:
    """An existing PNG or an empty file is replaced; a folder or any other file is not overwritten."""
    args = ["-m", model, "-v", video, "-t", *TEXTS, "--out"]
    old, empty, text, folder = (tmp_path / name for name in ("old.png", "empty.png", "text.png", "folder.png"))
    Image.new("RGB", (1, 1)).save(old)
    empty.touch()
    text.write_text("mine")
    folder.mkdir()
    for file in (old, empty):
        assert run(*args, file).code == 0
        assert read(file) == drawn(video)
    for file, words in ((text, "is no PNG file"), (folder, "is a folder")):
        failed = run(*args, file)
        assert (failed.code, failed.out) == (1, "")
        assert failed.err.startswith(f"error: --out: {file} ")
        assert words in failed.err
    assert text.read_text() == "mine"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--out": "missing/out.png"}, ["--out", "there is no folder"]),
        ({"--model": "missing"}, ["there is no folder missing"]),
        ({"--video": "missing.mp4"}, ["missing.mp4"]),
        ({"--video": __file__}, [__file__, "not a video"]),
        ({"--start": "2", "--end": "1"}, ["end=1.0", "start=2.0"]),
        ({"--start": "100"}, ["start=100.0", "beyond the end"]),
        ({"--font": "missing.ttf"}, ["font", "missing.ttf"]),
        ({"--font": __file__}, ["font", __file__]),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(
    run: Run, model: Path, video: Path, tmp_path: Path, changes: dict[str, str], words: list[str]
) -> None:
    """An error is one line that names the argument or the file, and no file is left."""
    out = tmp_path / changes.get("--out", "out.png")
    options = {"--model": model, "--video": video, "--text": "a dog", **changes, "--out": out}
    failed = run(*(word for option in options.items() for word in option))
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("error: ")
    assert failed.err.count("\n") == 1, failed.err
    for word in words:
        assert word in failed.err
    assert list(tmp_path.iterdir()) == []


def test_times_are_typed_as_a_clock_too(run: Run, model: Path, video: Path, tmp_path: Path) -> None:
    args = ["-m", model, "-v", video, "-t", "a dog", "-o"]
    assert run(*args, tmp_path / "seconds.png", "--start", "1", "--end", "2").code == 0
    assert run(*args, tmp_path / "clock.png", "--start", "0:01", "--end", "0:02.0").code == 0
    assert read(tmp_path / "clock.png") == read(tmp_path / "seconds.png")
    refused = run(*args, tmp_path / "no.png", "--start", "1:75")
    assert refused.code == 2
    assert "expected less than 60 after each colon, got '1:75'" in " ".join(refused.err.replace("│", "").split())


def test_a_model_without_shifted_tokens_says_so(run: Run, video: Path, tmp_path: Path) -> None:
    """`--shifted` is an error if the model shifts no whole tokens."""
    model = tiny_model(shift_kind="none")
    folder = save_hub_folder(model, tiny_processor(model.config), tmp_path / "model")
    failed = run("-m", folder, "-v", video, "-t", "a", "--shifted", "-o", tmp_path / "out.png")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "shifted: no layer of this model shifts whole tokens" in failed.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(run: Run, model: Path, video: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "expected a PNG file" in run("-m", model, "-v", video, "-t", "a", "-o", tmp_path / "pipe.png").err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["-m", "x", "-v", "a.mp4", "-t", "a"], "--out"),
        (["-m", "x", "-v", "a.mp4", "-o", "a.png"], "--text"),
        (["-m", "x", "-t", "a", "-o", "a.png"], "--video"),
        (["-v", "a.mp4", "-t", "a", "-o", "a.png"], "--model"),
        (["-m", "x", "-v", "a.mp4", "-t", "a", "-o", "a.jpg"], "ends in .png"),
        (["-m", "x", "-v", "a.mp4", "b.mp4", "-t", "a", "-o", "a.png"], "b.mp4"),
    ],
)
def test_a_wrong_command_line_exits_with_2(run: Run, args: list[str], named: str) -> None:
    """A wrong command line fails before anything is loaded."""
    failed = run(*args)
    assert (failed.code, failed.out) == (2, "")
    assert named in failed.err


def test_a_picture_does_not_show_where_the_video_was() -> None:
    """A picture shows only the file name, because it may be shared and paths or URLs may contain secrets."""
    assert _file_name("/home/me/videos/clip.mp4") == "clip.mp4"
    assert _file_name("https://user:secret@host/folder/clip.mp4?token=secret#t=3") == "clip.mp4"
    assert _file_name("https://host") == "https"
    assert _file_name("what?.mp4") == "what?.mp4"


def test_a_moment_of_an_index_is_explained_from_the_frames_that_were_indexed(
    run: Run, model: Path, video: Path, tmp_path: Path
) -> None:
    index_videos(video, model, tmp_path / "index", settings=WindowSettings(2, 1, 2), workers=0, device="cpu")
    network, processor = load_model(model, device="cpu")
    opened = VideoIndex.open(tmp_path / "index", model=network, processor=processor)
    hit = opened.search(TEXTS[0], k=1)[0]
    video_id, explanation = explain_window(opened, hit.window, TEXTS, network, processor)
    assert video_id == hit.video_id
    assert explanation.scores[0] == pytest.approx(hit.score, rel=1e-2)  # the index stores float16
    assert explanation.seconds == pytest.approx([hit.start + number / 2 for number in range(4)])
    args = ["--index", tmp_path / "index", "-t", *TEXTS, "-o"]
    assert run(*args, tmp_path / "index.png", "--window", hit.window).code == 0
    assert read(tmp_path / "index.png") == draw_explanation(explanation, title=video.name).tobytes()
    failed = run(*args, tmp_path / "no.png", "--window", "none")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "there is no window 'none'" in failed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", "x"], "with both --index and --window"),
        (["--window", "x"], "with both --index and --window"),
        (["--model", "x"], "name --model and --video, or --index and --window"),
        (["--index", "x", "--window", "y", "--video", "z"], "leave out --video, --start and --end"),
        (["--index", "x", "--window", "y", "--start", "1"], "leave out --video, --start and --end"),
    ],
)
def test_either_a_video_or_a_moment_of_an_index_is_explained(run: Run, arguments: list[str], words: str) -> None:
    failed = run("-t", "a dog", "-o", "why.png", *arguments)
    assert failed.code == 2
    assert words in " ".join(failed.err.replace("│", " ").split())
