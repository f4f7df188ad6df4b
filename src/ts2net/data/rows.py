"""Read the rows of a dataset with the standard columns one at a time, without decoding videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..benchmarks import Row

if TYPE_CHECKING:
    import datasets

_REQUIRED_COLUMNS = ("id", "captions", "video")


@dataclass(frozen=True)
class VideoRow(Row):
    """A row with its video.

    Attributes:
        video: The video's file, not decoded: a path, bytes or `{"bytes", "path"}`; `None` if there is none.
    """

    video: Any = None

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> VideoRow:
        """Read the standard columns, of which only `id`, `captions` and `video` are required."""
        return cls(
            video_id=columns["id"],
            captions=tuple(columns["captions"] or ()),
            start=columns.get("start"),
            end=columns.get("end"),
            group=columns.get("group"),
            video=columns["video"],
        )


def as_stream(dataset: datasets.Dataset | datasets.IterableDataset, max_shards: int = 1) -> datasets.IterableDataset:
    """Convert a dataset to a stream whose videos stay encoded.

    Args:
        dataset: A dataset with the standard columns.
        max_shards: Maximum number of shards of a dataset in memory or on disk. A stream keeps its own shards.

    Raises:
        TypeError: If `dataset` is not a dataset.
        ValueError: If the dataset is empty or a column is missing.
    """
    if hasattr(dataset, "to_iterable_dataset"):
        if len(dataset) == 0:
            raise ValueError("the data set is empty: expected at least one video")
        dataset = dataset.to_iterable_dataset(num_shards=min(max_shards, len(dataset)))
    if not hasattr(dataset, "set_epoch"):
        raise TypeError(f"expected a datasets.IterableDataset or datasets.Dataset, got {type(dataset).__name__}")
    if dataset.features is not None:
        _check_columns(dataset.features)
        if getattr(dataset.features["video"], "decode", False):
            dataset = dataset.decode(False)
    return dataset.with_format(None)


def read_rows(stream: datasets.IterableDataset) -> Iterator[VideoRow]:
    """Yield all rows of a stream, also in a worker of a `DataLoader`.

    Raises:
        ValueError: If a column is missing.
    """
    # Not `for row in stream`, which in a worker of a `DataLoader` yields only the worker's share of the rows and
    # reseeds the shuffling.
    for batch in stream.iter(batch_size=1):
        _check_columns(batch)
        yield VideoRow.from_columns({name: values[0] for name, values in batch.items()})


def _check_columns(columns: Iterable[str]) -> None:
    columns = list(columns)
    missing = [name for name in _REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"the data set has no column {missing[0]!r}; its columns are {', '.join(sorted(columns))}")
