"""Standard columns of all datasets in this package, as `datasets` features.

| column | type | content |
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
    """Return the standard columns as `datasets.Features`."""
    return datasets.Features(annotation_features() | {"video": datasets.Video(decode=False)})


def annotation_features() -> dict[str, Any]:
    """Return the columns other than the video, which are also the fields of a clip's JSON in a shard."""
    return {
        name: datasets.List(datasets.Value(kind[0])) if isinstance(kind, list) else datasets.Value(kind)
        for name, kind in COLUMN_TYPES.items()
    }


def standard_row(row: Row, *, video: bytes | None = None, path: str | None = None) -> dict[str, Any]:
    """Return the standard columns of a row, with the bytes or the path of its video."""
    return row.to_columns() | {"video": {"bytes": video, "path": path}}


def rows_without_videos(rows: Iterable[Row]) -> datasets.Dataset:
    """Create a dataset of rows whose videos are not available."""
    columns = [row.to_columns() | {"video": None} for row in rows]
    return datasets.Dataset.from_list(columns, features=standard_features())
