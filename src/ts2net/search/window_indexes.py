"""The vector index of the database over the table of windows.

Notable here: it has 4 bits a dimension (RaBitQ) beside the centre of the partition. All partitions are searched, which
takes some 20 ms for a million windows on one core. They are few, since finding a vector's partition is what takes long
in float16.
"""

from typing import Any

from ..lazy import name_missing_extra
from .columns import VECTOR_COLUMN

with name_missing_extra():
    from lancedb.index import IvfRq

MIN_INDEXED_WINDOWS = 20_000  # fewer are searched in a moment without an index of the database

_STALE_SHARE = 0.2  # of rows that the index does not cover
_BITS = 4
_WINDOWS_A_PARTITION = 65_536


def update_vector_index(table: Any, min_windows: int) -> bool:
    """Make the vector index, or make it anew when it doesn't cover a fifth of the windows.

    Args:
        table: The table of windows.
        min_windows: A smaller table gets none.

    Returns:
        Whether it was made.
    """
    windows = int(table.count_rows())
    if windows < min_windows:
        return False
    for index in table.list_indices():
        if list(index.columns) != [VECTOR_COLUMN]:  # of metadata, which older versions filtered by in the database
            table.drop_index(index.name)
        elif (index.num_unindexed_rows or 0) < _STALE_SHARE * windows:
            return False
    partitions = -(-windows // _WINDOWS_A_PARTITION)
    config = IvfRq(distance_type="dot", num_bits=_BITS, num_partitions=partitions)
    table.create_index(VECTOR_COLUMN, config=config, replace=True)
    return True


def drop_indexes(table: Any) -> None:
    """Remove all indexes of the database; [`update_vector_index`] makes the vector index anew."""
    for index in table.list_indices():
        table.drop_index(index.name)
