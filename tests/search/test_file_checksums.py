"""Checksums of the files of an index detect a flipped bit in any file, and a repair removes the damage."""

import json
import os
import random
from pathlib import Path

import pytest

from support.search_indexes import make_index, random_video, rows_of
from support.tiny_models import tiny_model
from ts2net.cli import main
from ts2net.search.file_checksums import check_files, note_files
from ts2net.search.records import Cue
from ts2net.search.repairing import check_index, repair_index
from ts2net.search.store import Store
from ts2net.videos.broken import BrokenVideo

pytestmark = pytest.mark.slow

KINDS = {"/a.mp4": "dog", "/b.mp4": "cat"}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index with rows in every table."""
    videos = [random_video(name, seed, metadata={"kind": kind}) for seed, (name, kind) in enumerate(KINDS.items())]
    make_index(tmp_path / "index", tiny_model(), videos)
    with Store.write(tmp_path / "index") as store:
        store.set_spoken({"/a.mp4": ([(Cue(1.0, "the tide is out"),)], "read")})
        store.set_unrelated_scores(["a text"], [1.0], 10)
        store.mark_broken([BrokenVideo("/x.mp4", "empty", "1")])
        store.update_spoken()
    return tmp_path / "index"


def flip(file: Path, content: bytes) -> None:
    """Flip a bit in the last byte of the given content."""
    data = bytearray(file.read_bytes())
    data[data.index(content) + len(content) - 1] ^= 1
    file.write_bytes(data)


def data_with(index: Path, table: str, content: bytes) -> Path:
    return next(file for file in (index / f"{table}.lance" / "data").iterdir() if content in file.read_bytes())


def test_a_bit_in_any_file_is_noticed(index: Path):
    chance = random.Random(0)
    for file in index.glob("*.lance/**/*.*"):
        if file.suffix == ".json":
            continue
        whole = file.read_bytes()
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        assert check_files(index).changed == (file.relative_to(index).as_posix(),)
        file.write_bytes(whole)
    assert check_files(index).changed == ()


def test_spoken_words(index: Path, capsys: pytest.CaptureFixture[str]):
    """Damaged speech rows are removed, and their subtitles are marked to be read again."""
    file = data_with(index, "spoken", b"tide")
    flip(file, b"tide")
    with pytest.raises(SystemExit) as ended:
        main(["info", str(index), "--check"])
    assert ended.value.code == 1
    name = file.relative_to(index).as_posix()
    assert capsys.readouterr().out == f"changed file of the index: {name}\n10 windows were read; 0 are damaged\n"
    damage = repair_index(index)
    assert (damage.files, damage.tables, damage.lost) == ((name,), ["spoken"], {})
    store = Store.open(index)
    assert store.subtitles() == {"/a.mp4": None, "/b.mp4": None}
    assert store.snapshot().num_spoken() == 0
    assert not check_index(index)


def test_metadata_cost_their_video(index: Path):
    """A video with damaged metadata is lost, and its original metadata is reported from the table of names."""
    flip(data_with(index, "windows", b"cat"), b"cat")
    assert {row["metadata"]["kind"] for row in rows_of(index)} == {"dog", "cat", "cau"}
    damage = check_index(index)
    assert damage.lost == {"/b.mp4": {"kind": "cat"}}
    assert repair_index(index).lost == damage.lost
    assert {row["video"] for row in rows_of(index)} == {"/a.mp4"}
    assert not check_index(index)


def test_names_are_noted_again(index: Path):
    before = rows_of(index)
    flip(data_with(index, "names", b"dog"), b"dog")
    assert check_index(index)
    assert repair_index(index).tables == ["names"]
    with Store.write(index) as store:
        assert {video.video: video.metadata["kind"] for video in store.noted().values()} == KINDS
    assert rows_of(index) == before
    assert not check_index(index)


def test_a_manifest_goes_back_to_the_one_before(index: Path):
    with Store.write(index) as store:
        store.add([random_video("/c.mp4", 5)])
    latest = min((index / "windows.lance" / "_versions").glob("*.manifest"))
    flip(latest, latest.read_bytes()[-5:-4])
    damage = repair_index(index)
    assert (damage.tables, list(damage.lost)) == (["windows"], ["/c.mp4"])
    assert {row["video"] for row in rows_of(index)} == set(KINDS)
    assert not check_index(index)


def test_what_nobody_reads_costs_nothing(index: Path):
    """Damage to an old transaction or a database index costs no data; the index is rebuilt."""
    before = rows_of(index)
    for folder in ("windows.lance/_transactions", "spoken.lance/_indices"):
        file = next(file for file in (index / folder).rglob("*.*"))
        flip(file, file.read_bytes()[:1])
    damage = repair_index(index)
    assert (len(damage.files), damage.tables, damage.lost) == (2, [], {})
    assert rows_of(index) == before
    assert Store.open(index).snapshot().num_spoken() == 1
    assert not check_index(index)


@pytest.mark.parametrize("spoil", [os.remove, lambda file: file.write_text(file.read_text().replace("1", "2", 1))])
def test_without_checksums_the_next_write_completes_them(index: Path, spoil, capsys: pytest.CaptureFixture[str]):
    """An index with missing or damaged checksums is readable, and the next write adds them."""
    spoil(index / "checksums.json")
    assert Store.open(index).snapshot().num_spoken() == 1
    with pytest.raises(SystemExit):
        main(["info", str(index), "--check", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["unchecked_files"] > 20
    assert (report["changed"], report["damaged"]) == (0, [])
    with Store.write(index):
        pass
    damage = check_index(index)
    assert (bool(damage), damage.unchecked_files) == (False, 0)


def test_a_changed_file_is_not_taken_for_sound_by_the_next_write(index: Path):
    flip(data_with(index, "spoken", b"tide"), b"tide")
    note_files(index)
    with Store.write(index) as store:
        store.add([random_video("/c.mp4", 5)])
    assert len(check_files(index).changed) == 1
