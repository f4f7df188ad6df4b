"""A filter selects exactly the windows of the matching videos, after every commit."""

import random
from pathlib import Path

import numpy as np
import pytest

from support.search_indexes import rows_of, windows_table
from support.stored_videos import ABOUT, video
from ts2net.search.snapshot import Snapshot
from ts2net.search.store import Store
from ts2net.search.video_rows import ChosenVideos

FILTERS = {
    "all": (lambda name, metadata: True, {"path": "*"}),
    "none": (lambda name, metadata: False, {"path": "nothing"}),
    "path": (lambda name, metadata: name.endswith(("1.mp4", "3.mp4")), {"path": "*[13].mp4"}),
    "metadata": (lambda name, metadata: metadata.get("kind") == "dog", {"metadata": {"kind": "dog"}}),
    "videos": (lambda name, metadata: name in ("/a/2.mp4", "/a/4.mp4"), {"videos": ["/a/2.mp4", "/a/4.mp4", "/b"]}),
    "both": (
        lambda name, metadata: name.endswith("1.mp4") and metadata.get("kind") == "dog",
        {"path": "*1.mp4", "metadata": {"kind": "dog"}},
    ),
}


def windows_of(snapshot: Snapshot, chosen: ChosenVideos | None) -> list[tuple[str, float]]:
    assert chosen is not None
    rows = [row for part in chosen.parts(3) for row in part.tolist()]
    assert len(rows) == chosen.num_rows
    assert rows == sorted(set(rows))
    every = np.array(snapshot.row_ids())
    assert sorted(every[chosen.has(every)].tolist()) == rows
    moments = [batch.moments(np.arange(len(batch))) for batch in snapshot.batches(chosen)]
    return sorted((name, start) for batch in moments for name, start, _ in batch)


@pytest.mark.slow
def test_a_filter_admits_the_same_rows_as_one_that_looks_at_each(tmp_path: Path):
    """A filter selects the same rows as a check of every row, while videos change and files are compacted."""
    random_ = random.Random(0)
    store = Store.create(tmp_path / "index", ABOUT)
    store.add([video("/a/0.mp4", 3, kind="dog")])
    for step in range(25):
        name = f"/a/{random_.randrange(6)}.mp4"
        action = random_.choice(["add", "add", "drop", "metadata", "compact"])
        if action == "add":
            others = [video(f"/other/{step}-{number}.mp4", 1) for number in range(2)]
            store.add([video(name, random_.randint(1, 5), seed=step, kind=random_.choice(["dog", "cat"])), *others])
        elif name not in store.snapshot().video_ids():
            continue
        elif action == "drop":
            store.drop([name])
        elif action == "metadata":
            store.set_metadata({name: {"kind": random_.choice(["dog", "cat"])}})
        else:
            windows_table(store.path).optimize()
        snapshot = store.snapshot()
        rows = rows_of(store.path)
        for fits, settings in FILTERS.values():
            expected = sorted((row["video"], row["start"]) for row in rows if fits(row["video"], row["metadata"]))
            assert windows_of(snapshot, snapshot.choose(**settings)) == expected


def test_windows_whose_video_has_lost_its_first_one_fit_no_filter(tmp_path: Path):
    store = Store.create(tmp_path / "index", ABOUT)
    store.add([video("/a/0.mp4", 3), video("/a/1.mp4", 3)])
    windows_table(store.path).delete("number = 0 AND video = '/a/0.mp4'")
    assert {name for name, _ in windows_of(store.snapshot(), store.snapshot().choose(path="*"))} == {"/a/1.mp4"}
    windows_table(store.path).delete("number = 0")
    assert windows_of(store.snapshot(), store.snapshot().choose(path="*")) == []


def test_many_rows_come_in_parts():
    starts, stops = np.array([5, 100, 2**40]), np.array([9, 101, 2**40 + 3])
    chosen = ChosenVideos(["a", "b"], starts, stops)
    expected = [5, 6, 7, 8, 100, 2**40, 2**40 + 1, 2**40 + 2]
    for size in range(1, 10):
        assert np.concatenate(list(chosen.parts(size))).tolist() == expected
    assert not chosen.has(np.array([0, 4, 9, 99, 101, 2**40 - 1, 2**40 + 3])).any()


def test_a_snapshot_that_asks_nothing_of_videos_chooses_none(tmp_path: Path):
    store = Store.create(tmp_path / "index", ABOUT)
    store.add([video("/a/0.mp4")])
    assert store.snapshot().choose() is None
    with pytest.raises(ValueError, match=r"has no metadata 'kind': it has none"):
        store.snapshot().choose(metadata={"kind": "dog"})
