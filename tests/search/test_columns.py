"""Untrusted names and values of metadata are stored unchanged, can be filtered by, and are never executed."""

from pathlib import Path

import numpy as np
import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model
from ts2net.search.columns import metadata_column, metadata_names
from ts2net.search.store import Store

NAMES = [
    "window", "meta_kind", "Kind", "kind", "a b", "a.b", "a`b", "x' OR '1'='1", 'x" --', "); DROP TABLE windows;",
    "_61", "\u00e9", "\u65e5\u672c", "\x00", "\udcff", "a\nb", "",
]  # fmt: skip


def test_each_name_has_a_column_of_its_own_that_needs_no_quoting():
    columns = [metadata_column(name) for name in NAMES]
    assert len(set(columns)) == len(NAMES)
    assert all(column.isascii() and column.replace("_", "").isalnum() for column in columns if column != "meta_")
    assert metadata_names(columns) == NAMES


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns") / "index"
    videos = [
        random_video("/hostile.mp4", 0, windows=2, metadata={name: f"{name}'" for name in NAMES}),
        random_video("/plain.mp4", 1, windows=2, metadata={"kind": "dog"}),
    ]
    make_index(folder, tiny_model(), videos)
    return folder


def test_they_are_kept(index: Path):
    metadata = {video.video_id: dict(video.metadata) for video in Store.open(index).snapshot().videos()}
    assert metadata == {"/hostile.mp4": {name: f"{name}'" for name in NAMES}, "/plain.mp4": {"kind": "dog"}}


@pytest.mark.parametrize("name", NAMES)
def test_a_search_filters_by_them(index: Path, name: str):
    snapshot = Store.open(index).snapshot()

    def matching(value: str) -> list[str]:
        batches = snapshot.batches(snapshot.choose(metadata={name: value}))
        moments = [batch.moments(np.arange(len(batch))) for batch in batches]
        return sorted(video for batch in moments for video, _, _ in batch)

    assert matching(f"{name}'") == ["/hostile.mp4"] * 2
    assert matching("' OR 1=1 --") == []
