"""Checking a damaged index, and repairing it by indexing the lost videos again."""

import os
from pathlib import Path

import pytest

from support.crashing_reads import crash_at_one_row
from support.search_indexes import make_index, random_video, rows_of
from support.tiny_models import tiny_config, tiny_model, tiny_processor
from support.video_files import write_video
from ts2net.cli import main
from ts2net.search import VideoIndex, WindowSettings, index_videos, repairing
from ts2net.search.repairing import check_index, repair_index
from ts2net.search.store import Store
from ts2net.search.store_errors import DamageError
from ts2net.videos.broken import BrokenVideo

NAMES = ["/a.mp4", "/b.mp4", "/c.mp4"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of three videos, each in its own data file."""
    make_index(tmp_path / "index", tiny_model(), [])
    for seed, name in enumerate(NAMES):
        with Store.write(tmp_path / "index") as store:
            store.add([random_video(name, seed, metadata={"seed": str(seed)})])
    return tmp_path / "index"


def file_of(index: Path, number: int) -> Path:
    files = (index / "windows.lance" / "data").glob("*.lance")
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)[number]


def flip(file: Path, content: bytes) -> None:
    """Flip a bit in the first byte of the given content."""
    data = bytearray(file.read_bytes())
    data[data.index(content)] ^= 1
    file.write_bytes(data)


def damage_missing(index: Path) -> None:
    file_of(index, 1).unlink()


def damage_cut(index: Path) -> None:
    os.truncate(file_of(index, 1), 1000)


def damage_frames(index: Path) -> None:
    flip(file_of(index, 1), random_video("/b.mp4", 1).windows[2].frames.tobytes())


def damage_thumbnail(index: Path) -> None:
    flip(file_of(index, 1), b"/b.mp4 3")


def damage_name(index: Path) -> None:
    flip(file_of(index, 1), b"/b.mp4")


def damage_latest_version(index: Path) -> None:
    """Truncate the manifest of the latest version, which added the last video."""
    latest = min((index / "windows.lance" / "_versions").glob("*.manifest"))
    latest.write_bytes(latest.read_bytes()[:100])


@pytest.mark.slow
def test_a_sound_index_is_sound(index: Path, capsys: pytest.CaptureFixture[str]):
    damage = check_index(index)
    assert not damage
    assert (damage.num_windows, damage.unchecked) == (15, 0)
    with pytest.raises(SystemExit) as ended:
        main(["info", str(index), "--check"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "15 windows were read; 0 are damaged\n"
    before = rows_of(index)
    assert not repair_index(index)
    assert rows_of(index) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "lost"),
    [
        (damage_missing, "/b.mp4"),
        (damage_cut, "/b.mp4"),
        (damage_frames, "/b.mp4"),
        (damage_thumbnail, "/b.mp4"),
        (damage_name, "/b.mp4"),
        (damage_latest_version, "/c.mp4"),
    ],
)
def test_says_which_video_is_lost_and_keeps_the_others(index: Path, spoil, lost: str):
    before = [row for row in rows_of(index) if row["video"] != lost]
    spoil(index)
    damage = repair_index(index)
    assert damage.lost == {lost: {"seed": str(NAMES.index(lost))}}
    assert rows_of(index) == before
    with Store.write(index) as store:
        assert {video.video for video in store.noted().values()} == set(NAMES) - {lost}
        store.add([random_video(lost, 9)])
        assert store.snapshot().video_ids() == NAMES


@pytest.mark.parametrize("spoil", [damage_missing, damage_cut])
def test_an_error_names_the_command_and_no_file_of_the_database(index: Path, spoil):
    spoil(index)
    message = r"index: files of the index are missing or damaged; `ts2net index --repair --out .*index` says which"
    with pytest.raises(DamageError, match=message) as caught:
        Store.open(index).snapshot().video_ids()
    assert ".lance" not in str(caught.value)


@pytest.mark.slow
def test_smaller_tables_can_be_lost(index: Path):
    with Store.write(index) as store:
        store.set_unrelated_scores(["a text"], [1.0], 15)
        store.move_root("/", "/new")
        store.mark_broken([BrokenVideo("/x.mp4", "empty", "1")])
    tables = ["broken", "unrelated", "roots", "names"]
    for table in tables:
        for file in (index / f"{table}.lance" / "data").iterdir():
            file.unlink()
    damage = repair_index(index)
    assert (damage.tables, damage.lost) == (tables, {})
    with Store.write(index) as store:
        assert len(store.snapshot().video_ids()) == len(store.noted()) == 3


@pytest.mark.slow
def test_damage_that_makes_the_database_crash_costs_one_video(index: Path, monkeypatch: pytest.MonkeyPatch):
    """If the database crashes on a row, rows are read in subprocesses in ever smaller parts, and one video is lost."""
    monkeypatch.setattr(repairing, "read_part", crash_at_one_row)
    damage = check_index(index)
    assert set(damage.lost) == {"/b.mp4"}
    assert (damage.unreadable, damage.changed) == (1, 0)


@pytest.mark.slow
def test_a_video_that_is_still_there_is_indexed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A damaged video is indexed again with its metadata, and one whose file is missing is reported."""
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor(tiny_config()).save_pretrained(tmp_path / "model")
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames=48, fps=8)
    (tmp_path / "about.csv").write_text("file,kind\na.mp4,dog\nb.mp4,cat\n")
    index = tmp_path / "index"
    settings = {"settings": WindowSettings(4, 2, 1), "workers": 0, "device": "cpu"}
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    index_videos(videos, tmp_path / "model", index, metadata=tmp_path / "about.csv", **settings)
    before = rows_of(index)
    for file in (index / "windows.lance" / "data").iterdir():
        file.unlink()
    (tmp_path / "b.mp4").rename(tmp_path / "elsewhere.mp4")
    with pytest.raises(SystemExit) as ended:
        main(["info", str(index), "--check"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert f"damaged: {tmp_path / 'a.mp4'}\ndamaged: {tmp_path / 'b.mp4'}\n" in printed
    with pytest.raises(SystemExit) as ended:
        main(["index", "--repair", "--out", str(index), "--workers", "0", "--device", "cpu"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert f"was damaged: {tmp_path / 'a.mp4'}: indexed again\n" in printed
    assert f"was damaged: {tmp_path / 'b.mp4'}: lost, and its file can't be used\n" in printed
    assert rows_of(index) == [row for row in before if row["video"].endswith("a.mp4")]
    assert VideoIndex.open(index).videos() == [str(tmp_path / "a.mp4")]
