"""The command `ts2net index`: its table, broken videos, errors and Ctrl-C."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support.commands import Result, Run, command_runner
from support.forked_python import ForkedPython
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import encoded
from ts2net.search.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, on a terminal of 100 columns, without workers."""
    return command_runner(capfd, monkeypatch, columns=100, before=["index"], after=["--workers", "0"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network = tiny_model(num_frames=12)
    network.save_pretrained(folder)
    tiny_processor(network.config).save_pretrained(folder)
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(encoded(container="mp4"))
    return folder


def figures(result: Result) -> list[str]:
    return result.out.splitlines()[2].split()


def test_the_table_says_what_was_done_and_again_with_the_indexs_own_model(run: Run, model: Path, videos: Path):
    index = videos.parent / "index"
    first = run(videos, "--model", model, "--out", index, "--window", "6")
    assert first.code == 0, first.err
    assert figures(first)[:5] == ["2", "0", "0", "0", "0"]
    assert Store.open(index).about.windows.step == 3  # half a window
    holds, following = first.out.splitlines()[-2:]
    assert holds.startswith(f"{index}: 2 videos, 2 windows, ")
    assert holds.endswith(" MB")
    assert following == f'next, try: ts2net search {index} "a sentence"'
    (videos / "a.mp4").unlink()
    (videos / "c.mp4").write_bytes(
        encoded(container="mp4", frames=60)
    )  # otherwise, it would count as the renamed a.mp4
    second = run(videos, "-o", index)
    assert figures(second)[:5] == ["1", "0", "1", "0", "0"]
    assert "1 of its videos are gone; --drop-missing removes them" in second.out
    third = run(f"{videos}/*.mp4", "-o", index, "--drop-missing")
    assert figures(third)[:5] == ["0", "0", "2", "1", "0"]
    assert "gone" not in third.out


def test_broken_videos_are_listed_in_a_line_each(run: Run, model: Path, videos: Path):
    """A broken video gives one line; its name can't add lines, colours or markup."""
    (videos / "two\nlines\x1b[31m[red].mp4").write_bytes(b"broken")
    result = run(videos, "-m", model, "-o", videos.parent / "index")
    assert result.code == 1  # as for every command that skipped unreadable files
    assert figures(result)[:5] == ["2", "0", "0", "0", "1"]
    (line,) = [line for line in result.out.splitlines() if line.startswith("broken: ")]
    assert r"two\nlines\x1b[31m[red].mp4: not a video" in line


def test_json_lists_every_video(run: Run, model: Path, videos: Path):
    """The JSON output lists every broken video, and the table only ten."""
    for number in range(12):
        (videos / f"{number}.mp4").write_bytes(b"broken")
    index = videos.parent / "index"
    assert "... and 2 more, which --json lists" in run(videos, "-m", model, "-o", index).out
    report = json.loads(run(videos, "-o", index, "--json").out)
    assert report["unchanged"] == [str(videos / "a.mp4"), str(videos / "b.mp4")]
    assert sorted(video["video"] for video in report["broken"]) == sorted(str(videos / f"{n}.mp4") for n in range(12))
    assert {video["reason"][:11] for video in report["broken"]} == {"not a video"}


def test_an_emptied_folder_is_said(run: Run, model: Path, videos: Path):
    index = videos.parent / "index"
    run(videos, "-m", model, "-o", index)
    for video in videos.iterdir():
        video.unlink()
    result = run(videos, "-o", index, "--drop-missing")
    assert (result.code, figures(result)[3]) == (0, "2")
    assert result.err == f"warning: there is no video in {videos}\n"


def test_nothing_but_broken_videos_is_a_failure(run: Run, model: Path, tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"broken")
    result = run(tmp_path / "a.mp4", "-m", model, "-o", tmp_path / "index")
    assert (result.code, result.err) == (1, "error: not one of the videos can be used\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{videos}", "-o", "{index}"], "a new index needs a model: say which one with --model"),
        (["{videos}/none.mp4", "-m", "{model}", "-o", "{index}"], "none.mp4: no such file or folder"),
        (["{videos}", "-m", "{videos}", "-o", "{index}"], "cannot load the model"),
        (["{videos}", "-m", "{model}", "-o", "{videos}/a.mp4"], "a.mp4 is a file; expected the folder of an index"),
        (["{videos}", "-m", "{model}", "-o", "{index}", "--window", "0"], "length must be a positive number, got 0"),
        (["{videos}", "-m", "{model}", "-o", "{index}", "--step", "13"], "step=13 is longer than the windows"),
    ],
)
def test_what_can_not_be_is_one_line_and_makes_no_index(
    run: Run, model: Path, videos: Path, args: list[str], message: str
):
    index = videos.parent / "index"
    result = run(*(arg.format(videos=videos, model=model, index=index) for arg in args))
    assert result.code == 1
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not index.exists()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is a signal of Unix here")
def test_ctrl_c_says_that_the_same_command_goes_on(model: Path, tmp_path: Path, run: Run):
    """After Ctrl-C, the message says that the same command resumes, and running it again does."""
    folder, index = tmp_path / "videos", tmp_path / "index"
    folder.mkdir()
    clip = encoded(container="mp4", frames=240)
    for number in range(100):
        (folder / f"{number}.mp4").write_bytes(clip)
    command = ["-m", "ts2net", "index", folder, "-m", model, "-o", index, "--workers", "1"]
    process = ForkedPython(command)
    while not (Store.exists(index) or process.poll() is not None):
        time.sleep(0.05)
    time.sleep(1)  # waits for the garbage collection after the start, during which Python drops signals
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait()
    out, err = process.printed()
    assert (process.poll(), out) == (130, ""), err
    assert err.splitlines()[-1] == "stopped; the same command goes on from here"
    done = len(Store.open(index).snapshot().video_ids())
    assert done < 100
    for number in range(10, 100):
        (folder / f"{number}.mp4").unlink()
    result = run(folder, "-o", index)
    assert result.code == 0
    assert len(Store.open(index).snapshot().video_ids()) >= 10
