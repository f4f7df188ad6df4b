"""`ts2net info`, `list` and `remove`, which read the contents of an index without its model."""

import json
from pathlib import Path

import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model
from ts2net.cli import main
from ts2net.search.store import Store
from ts2net.videos.broken import BrokenVideo


@pytest.fixture
def index(tmp_path: Path) -> Path:
    videos = [random_video(f"/clips/{name}.mp4", seed, metadata={"kind": name}) for seed, name in enumerate("abc")]
    make_index(tmp_path / "index", tiny_model(), videos, kept_in="me/tiny")
    with Store.write(tmp_path / "index") as store:
        store.mark_broken([BrokenVideo("/clips/d.mp4", "not a video", "1-1")])
    return tmp_path / "index"


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, args)])
    return int(exit_.value.code or 0)


def test_info_says_what_there_is(index: Path, capsys: pytest.CaptureFixture[str]):
    assert run("info", index, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in index.rglob("*") if file.is_file())
    assert facts == {
        "index": str(index),
        "model": "me/tiny",
        "revision": None,
        "dtype": "float32",
        "windows": "4 s every 2 s at 1 frames a second",
        "videos": 3,
        "num_windows": 15,
        "num_spoken": 0,
        "hours": pytest.approx(33 / 3600),
        "broken": 1,
        "metadata": ["kind"],
        "vector_index": False,
        "bytes": size,
    }
    assert run("info", index) == 0
    out = capsys.readouterr().out
    assert "me/tiny" in out
    assert "3, 0.01 hours" in out


def test_list_names_videos_that_fit(index: Path, capsys: pytest.CaptureFixture[str]):
    assert run("list", index, "--where", "kind=b") == 0
    assert capsys.readouterr().out == "   0:11.0  /clips/b.mp4\n"
    assert run("list", index, "--path", "clips/[ab].mp4", "--json") == 0
    videos = json.loads(capsys.readouterr().out)["videos"]
    assert [video["video"] for video in videos] == ["/clips/a.mp4", "/clips/b.mp4"]
    assert run("list", index, "--broken") == 0
    assert capsys.readouterr().out == "/clips/d.mp4: not a video\n"


def test_remove_takes_paths_and_patterns(index: Path, capsys: pytest.CaptureFixture[str]):
    assert run("remove", index, "/clips/a.mp4", "*/c.*") == 0
    assert capsys.readouterr().out == f"removed 2 of 3 videos from {index}\n"
    assert Store.open(index).snapshot().video_ids() == ["/clips/b.mp4"]
    assert run("remove", index, "/clips/b.mp4", "gone.mp4") == 1
    assert "gone.mp4: no video of" in capsys.readouterr().err
    assert Store.open(index).snapshot().video_ids() == ["/clips/b.mp4"]  # all or nothing
