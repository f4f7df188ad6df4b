"""The columns of every dataset that this package makes or reads, as `datasets` declares them.

| column | type | holds |
| --- | --- | --- |
| `id` | string | the clip's id, unique in the split |
| `captions` | list of strings | at least one |
| `start`, `end` | float64 or null | the moment, in seconds of the video; null is the start or the end of the video |
| `group` | string or null | clips of one group are also ranked among themselves; null is no group |
| `video` | `{"bytes", "path"}` or null | the video's file, not decoded; null if there is none |
"""

from collections.abc import Iterable
from typing import Any

import datasets

from ..benchmarks import COLUMN_TYPES, Row


def standard_features() -> datasets.Features:
    """The columns, as `datasets` declares them."""
    return datasets.Features(annotation_features() | {"video": datasets.Video(decode=False)})


def annotation_features() -> dict[str, Any]:
    """The columns without the video, which are also the fields of a clip's JSON in a shard."""
    return {
        name: datasets.List(datasets.Value(kind[0])) if isinstance(kind, list) else datasets.Value(kind)
        for name, kind in COLUMN_TYPES.items()
    }


def standard_row(row: Row, *, video: bytes | None = None, path: str | None = None) -> dict[str, Any]:
    """The columns of a row, with the bytes of its video or the path to it."""
    return row.to_columns() | {"video": {"bytes": video, "path": path}}


def rows_without_videos(rows: Iterable[Row]) -> datasets.Dataset:
    """A dataset of rows whose videos can't be had."""
    columns = [row.to_columns() | {"video": None} for row in rows]
    return datasets.Dataset.from_list(columns, features=standard_features())
