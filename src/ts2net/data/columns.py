"""The columns of every dataset that this package makes or reads.

| column | type | holds |
| --- | --- | --- |
| `id` | string | the clip's name, unique in the split |
| `captions` | list of strings | at least one |
| `start`, `end` | float64 or null | the moment, in seconds into the video; null is the video's start or end |
| `group` | string or null | clips of one group are ranked among themselves only; null is among all |
| `video` | `{"bytes", "path"}` | the video's file, undecoded |
"""

from typing import Any

try:
    import datasets
except ImportError as error:
    raise ImportError("reading data needs the library datasets: pip install 'ts2net[train]'") from error

from ..benchmarks import Row
from .shards import annotation


def standard_features() -> datasets.Features:
    """The columns, as `datasets` declares them."""
    return datasets.Features(annotation_features() | {"video": datasets.Video(decode=False)})


def annotation_features() -> dict[str, Any]:
    """The columns without the video, which are also the fields of a clip's JSON in a shard."""
    string, seconds = datasets.Value("string"), datasets.Value("float64")
    return {
        "id": string,
        "captions": datasets.List(string),
        "start": seconds,
        "end": seconds,
        "group": string,
    }


def standard_row(row: Row, *, video: bytes | None = None, path: str | None = None) -> dict[str, Any]:
    """A row of a benchmark with the standard columns, and the bytes of its video or the path to them."""
    return annotation(row) | {"video": {"bytes": video, "path": path}}
