"""The index on disk: complete videos in every version, with concurrent readers, writers and interruptions."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

import ts2net.search
from support.index_processes import add_with_little_room, read_and_write, run_process
from support.search_indexes import rows_of, windows_table
from support.stored_videos import ABOUT, video
from ts2net.search.about import FORMAT
from ts2net.search.columns import id_from_text, id_to_text, video_key, windows_schema
from ts2net.search.store import Store
from ts2net.videos.broken import BrokenVideo

HOSTILE_NAMES = [
    "/videos/two\nlines.mp4",
    "/videos/'; DROP TABLE windows; --.mp4",
    '/videos/" OR key IN (SELECT key FROM windows) OR "".mp4',
    "/videos/no-utf8-\udcff\udc80.mp4",
    "/videos/\\0ff.mp4",
    "/videos/%_*?[a-z].mp4",
    "/videos/\u202egpj.mp4",
    "/videos/" + "ü" * 120 + ".mp4",
]


def test_few_files_know_the_database():
    """Only the modules named in `docs/architecture.md` import LanceDB."""
    files = Path(ts2net.search.__file__).parent.rglob("*.py")
    importers = {
        file.stem for file in files if re.search(r"^ *(from|import) lancedb\b", file.read_text(), re.MULTILINE)
    }
    assert importers == {"location", "window_indexes", "spoken", "fusing"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "index", ABOUT)


def numbers_of(store: Store, name: str) -> list[int]:
    """Return the numbers of the windows of a video."""
    return [row["number"] for row in rows_of(store.path) if row["video"] == name]


def test_what_is_added_is_there_for_whoever_opens_it(store: Store, tmp_path: Path):
    """A newly opened store has every column of the added video."""
    added = video("/videos/a.mp4", 3, kind="dog")
    store.add([added])
    again = Store.open(tmp_path / "index")
    assert again.about == ABOUT
    rows = rows_of(again.path)
    assert [row["window"] for row in rows] == [f"{video_key('/videos/a.mp4')}-00000{number}" for number in range(3)]
    for row, window in zip(rows, added.windows, strict=True):
        assert (row["video"], row["signature"], row["duration"]) == ("/videos/a.mp4", "1", 24.0)
        assert (row["start"], row["end"], row["frame_times"]) == (window.start, window.end, window.frame_times)
        np.testing.assert_array_equal(np.array(row["frames"], np.float16), window.frames)
        assert row["thumbnail"] == window.thumbnail
        assert row["metadata"] == {"kind": "dog"}


def test_a_video_is_replaced_whole(store: Store):
    """Replacing a video removes all of its old windows, even if it has fewer now, and changes no other video."""
    store.add([video("a", 5), video("b", 2)])
    store.add([video("a", 3, signature="2", seed=1), video("c", 1)])
    assert numbers_of(store, "a") == [0, 1, 2]
    assert numbers_of(store, "b") == [0, 1]
    assert numbers_of(store, "c") == [0]
    videos = store.snapshot().videos()
    assert {video.video_id: video.signature for video in videos} == {"a": "2", "b": "1", "c": "1"}


def test_one_commit_adds_and_replaces_whole_videos(store: Store):
    """Videos are added and replaced in one commit, so that every version of the table has complete videos."""
    store.add([video("a", 5), video("b", 2)])
    version = windows_table(store.path).version
    store.add([video("a", 3, signature="2"), video("c", 4)])
    assert windows_table(store.path).version == version + 1


def test_broken_videos_come_and_go(store: Store):
    """A video is either indexed or broken, never both."""
    store.add([video("a"), video("b")])
    store.mark_broken([BrokenVideo("b", "damaged \udcff", "2"), BrokenVideo("c", "empty", "1")])
    assert store.snapshot().video_ids() == ["a"]
    assert store.broken() == [BrokenVideo("b", r"damaged \udcff", "2"), BrokenVideo("c", "empty", "1")]
    store.add([video("b", signature="3")])
    assert store.snapshot().video_ids() == ["a", "b"]
    assert [video.video_id for video in store.broken()] == ["c"]
    store.drop(["a", "c"])
    assert store.snapshot().video_ids() == ["b"]
    assert store.broken() == []


def test_labels_change_and_nothing_else(store: Store):
    store.add([video("a", 3, kind="dog"), video("b", 2, kind="cat")])
    before = rows_of(store.path)
    store.set_metadata({"a": {"kind": "wolf", "year": "1999"}})
    after = rows_of(store.path)
    metadata = {row["video"]: row.pop("metadata") for row in after}
    assert metadata == {"a": {"kind": "wolf", "year": "1999"}, "b": {"kind": "cat"}}
    assert after == [{name: value for name, value in row.items() if name != "metadata"} for row in before]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_only_names(store: Store, name: str):
    """A hostile name is stored byte for byte and is never interpreted as part of an SQL condition."""
    store.add([video("/videos/a.mp4"), video(name)])
    assert store.snapshot().video_ids() == sorted(["/videos/a.mp4", name])
    store.mark_broken([BrokenVideo(name, "changed", "2")])
    assert store.snapshot().video_ids() == ["/videos/a.mp4"]
    assert store.broken()[0].video_id == name
    store.drop([name])
    assert store.broken() == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_as_text_can_be_undone(name: str):
    id_to_text(name).encode()
    assert id_from_text(id_to_text(name)) == name


def test_what_a_killed_process_left_before_the_first_version_is_no_index(tmp_path: Path):
    (tmp_path / "index" / "windows.lance" / "data").mkdir(parents=True)
    (tmp_path / "index" / "windows.lance" / "data" / "half.lance").write_bytes(b"half")
    assert not Store.exists(tmp_path / "index")
    store = Store.create(tmp_path / "index", ABOUT)
    store.add([video("a")])
    assert Store.open(tmp_path / "index").snapshot().video_ids() == ["a"]


def test_an_index_is_not_made_over_another(store: Store):
    with pytest.raises(FileExistsError, match="there is an index already"):
        Store.create(store.path, ABOUT)


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no index; `ts2net index"):
        Store.open(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="expected the folder of an index"):
        Store.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("stored_format", "advice"), [(1, "index the videos again"), (FORMAT + 1, "update ts2net"), ("x", "again")]
)
def test_another_format_is_refused_with_what_to_do(tmp_path: Path, stored_format: object, advice: str):
    schema = windows_schema(ABOUT).with_metadata({"ts2net": json.dumps({"format": stored_format})})
    lancedb.connect(tmp_path / "index").create_table("windows", schema=schema)
    with pytest.raises(
        ValueError, match=rf"an index of format {stored_format!r}, and this ts2net reads format.*{advice}"
    ):
        Store.open(tmp_path / "index")
    assert Store.exists(tmp_path / "index")


@pytest.mark.parametrize(
    "metadata",
    [None, {"ts2net": "["}, {"ts2net": "[" * 100_000}, {"ts2net": "7"}, {"ts2net": json.dumps({"format": FORMAT})}],
)
def test_tables_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None):
    schema = pa.schema([pa.field("x", pa.int32())], metadata=metadata)
    lancedb.connect(tmp_path / "index").create_table("windows", schema=schema)
    with pytest.raises(ValueError, match="not an index that `ts2net index` wrote"):
        Store.open(tmp_path / "index")


@pytest.mark.slow
def test_an_object_store_that_can_not_be_reached_is_no_index_and_said_in_a_line(monkeypatch: pytest.MonkeyPatch):
    """An unreachable object store is a one-line error. Port 1 has no server."""
    for name, value in (("ENDPOINT", "http://127.0.0.1:1"), ("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_RETRY_TIMEOUT", "1")
    for ask in (Store.exists, Store.open):
        with pytest.raises(OSError, match="^s3://bucket/index: the index can't be read: Connection refused$"):
            ask("s3://bucket/index")


@pytest.mark.slow
def test_a_second_process_that_writes_is_refused_and_one_that_reads_is_not(store: Store, tmp_path: Path):
    store.add([video("a")])
    with Store.write(store.path):
        run_process(read_and_write, store.path, tmp_path / "answer")
    assert (tmp_path / "answer").read_text().splitlines() == [
        "['a']",
        f"{store.path}: another process is writing to this index",
    ]


def test_many_commits_become_few_files_and_stay_readable_meanwhile(store: Store):
    """A reader of an older version can still read all of it after a compaction."""
    for number in range(20):
        store.add([video(f"v{number:02d}", seed=number)])
    reader = windows_table(store.path)
    before = rows_of(store.path)
    snapshot = store.snapshot()
    store.compact()
    assert windows_table(store.path).stats()["fragment_stats"]["num_fragments"] == 1
    assert rows_of(store.path) == before
    assert reader.version < windows_table(store.path).version
    assert reader.to_arrow().sort_by("window")["window"].to_pylist() == [row["window"] for row in before]
    assert sum(map(len, snapshot.batches())) == len(before)
    assert Store.open(store.path).about == ABOUT


def test_an_address_works_as_a_folder_does(tmp_path: Path):
    """A `file://` URI works like the path of the folder."""
    address = (tmp_path / "an index").as_uri()
    store = Store.create(address, ABOUT)
    store.add([video("a")])
    assert Store.open(address).snapshot().video_ids() == ["a"]


def test_a_video_twice_or_without_windows_is_refused(store: Store):
    with pytest.raises(ValueError, match="twice"):
        store.add([video("a"), video("a")])
    with pytest.raises(ValueError, match="a: a video to add has no window"):
        store.add([replace(video("a"), windows=[])])
    assert len(store.snapshot()) == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits on processes are those of Unix")
def test_a_full_disk_is_said_and_the_index_stays_whole(store: Store, tmp_path: Path):
    """A failed write is reported and leaves the index intact; a file size limit stands for a full disk."""
    store.add([video("a")])
    run_process(add_with_little_room, store.path, video("b", 2000), tmp_path / "answer")
    assert (tmp_path / "answer").read_text() == f"{store.path}: the index can't be written: File too large"
    assert store.snapshot().video_ids() == ["a"]
    store.add([video("b", 2000)])
    assert len(numbers_of(store, "b")) == 2000
