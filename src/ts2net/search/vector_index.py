"""Candidates for a query out of a large index, without reading its frames.

Notable here:
- What is indexed is one vector a window, the mean of its frame embeddings, as it is and not brought to length 1: its
  product with a query is the mean of the frames' cosines, below which the score never lies and seldom far above. An
  index over every frame holds a dozen times as many vectors, most of them nearly alike, and costs as many times more
  to make and to search. The mean only picks candidates; they are then scored from all their frames.
- LanceDB stores a vector as 4 bits a dimension (RaBitQ) beside the centre of its partition. Every partition is
  searched: texts lie apart from all frames, so the partitions nearest to a text do not hold the frames nearest to it,
  while going through a million windows of 4 bits takes some 20 ms on one core.
- Few partitions, since finding a vector's partition is what takes long in float16.
- Rows newer than the index are gone through one by one by LanceDB, and those that are gone are left out.
"""

from typing import Any

import numpy as np
from lancedb.index import IvfRq

from .store import Store

FEWEST_WINDOWS = 20_000  # fewer are all scored within a moment
_COLUMN = "mean"
_BITS = 4
_WINDOWS_A_PARTITION = 65_536
_STALE_SHARE = 0.2
_ALL_PARTITIONS = 2**14  # more than there ever are


def has_vector_index(table: Any) -> bool:
    """Whether a snapshot of an index can be searched approximately."""
    return any(list(config.columns) == [_COLUMN] for config in table.list_indices())


def update_vector_index(store: Store, fewest_windows: int = FEWEST_WINDOWS) -> bool:
    """Make the vector index, or make it anew once a fifth of the windows are not in it. To be called by the writer.

    Args:
        store: The index.
        fewest_windows: Indexes of fewer windows get none.

    Returns:
        Whether it was made.

    Raises:
        StoreError: If it can't be written.
    """
    windows = len(store)
    if windows < fewest_windows:
        return False
    config = next((config for config in store.table.list_indices() if list(config.columns) == [_COLUMN]), None)
    if config is not None and (config.num_unindexed_rows or 0) < _STALE_SHARE * windows:
        return False
    partitions = -(-windows // _WINDOWS_A_PARTITION)
    store.index_column(_COLUMN, IvfRq(distance_type="dot", num_bits=_BITS, num_partitions=partitions))
    return True


def candidates(table: Any, query: np.ndarray, count: int, where: str | None = None) -> list[int]:
    """The rows whose mean fits a query best, by the vector index.

    Args:
        table: A snapshot.
        query: Of length 1, `(D,)`.
        count: How many.
        where: A condition on rows.
    """
    search = table.search(query.astype(np.float32), vector_column_name=_COLUMN).distance_type("dot")
    search = search.nprobes(_ALL_PARTITIONS)
    if where is not None:
        search = search.where(where, prefilter=True)
    rows = search.select(["_distance"]).with_row_id(True).limit(count).to_arrow()
    found: list[int] = rows["_rowid"].to_pylist()
    return found
