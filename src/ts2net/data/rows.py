"""The rows of a data set with the standard columns, read one at a time and never decoded.

Notable here: inside a worker of a `DataLoader`, iterating over a `datasets` stream takes only the worker's share of it
and reseeds its shuffling. Its `iter` doesn't, and that is what is used: who reads what is decided in this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

_REQUIRED_COLUMNS = ("id", "captions", "video")


def as_stream(dataset: datasets.Dataset | datasets.IterableDataset, max_shards: int = 1) -> datasets.IterableDataset:
    """A data set of either kind as a stream whose videos stay encoded.

    Args:
        dataset: With the standard columns.
        max_shards: The most parts that a data set held in memory or on disk is cut into. A stream keeps its own.

    Raises:
        TypeError: If it is no data set.
        ValueError: If it is empty or a column is missing.
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


def read_rows(stream: datasets.IterableDataset) -> Iterator[dict[str, Any]]:
    """The rows of a stream, all of them in whichever process.

    Raises:
        ValueError: If a column is missing.
    """
    for batch in stream.iter(batch_size=1):
        _check_columns(batch)
        yield {name: values[0] for name, values in batch.items()}


def _check_columns(columns: Iterable[str]) -> None:
    columns = list(columns)
    missing = [name for name in _REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise ValueError(f"the data set has no column {missing[0]!r}; its columns are {', '.join(sorted(columns))}")
