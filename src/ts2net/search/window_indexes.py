"""The database's vector index of the table of windows.

It stores 4 bits per dimension (RaBitQ) in addition to the centre of the partition. All partitions are searched, which
takes about 20 ms for a million windows on one core. There are few partitions, because finding the partition of a
float16 vector is slow.
"""

from typing import Any

from ..lazy import name_missing_extra
from .columns import VECTOR_COLUMN

with name_missing_extra():
    from lancedb.index import IvfRq

MIN_INDEXED_WINDOWS = 20_000  # fewer are searched fast enough without a vector index

_STALE_SHARE = 0.2  # share of rows missing from the index at which it is created again
_BITS = 4
_WINDOWS_A_PARTITION = 65_536


def update_vector_index(table: Any, min_windows: int) -> bool:
    """Create the vector index, or create it again if it misses at least a fifth of the windows.

    Args:
        table: The table of windows.
        min_windows: Minimum number of windows for a vector index.

    Returns:
        Whether it was created.
    """
    windows = int(table.count_rows())
    if windows < min_windows:
        return False
    for index in table.list_indices():
        if list(index.columns) != [VECTOR_COLUMN]:  # an index of metadata, which older versions created for filters
            table.drop_index(index.name)
        elif (index.num_unindexed_rows or 0) < _STALE_SHARE * windows:
            return False
    partitions = -(-windows // _WINDOWS_A_PARTITION)
    config = IvfRq(distance_type="dot", num_bits=_BITS, num_partitions=partitions)
    table.create_index(VECTOR_COLUMN, config=config, replace=True)
    return True


def drop_indexes(table: Any) -> None:
    """Remove all of the database's indexes; [`update_vector_index`] creates the vector index again."""
    for index in table.list_indices():
        table.drop_index(index.name)
