"""The indexes of the database over the table of windows: the vector index, and one for each column of metadata.

Notable here: the vector index has 4 bits a dimension (RaBitQ) beside the centre of the partition. All partitions are
searched, which takes some 20 ms for a million windows on one core. They are few, since finding a vector's partition is
what takes long in float16.
"""

from typing import Any

from ..lazy import name_missing_extra
from .columns import VECTOR_COLUMN, metadata_column, metadata_names

with name_missing_extra():
    from lancedb.index import BTree, IvfRq

MIN_INDEXED_WINDOWS = 20_000  # fewer are searched in a moment without indexes of the database

_STALE_SHARE = 0.2  # of rows that an index of the database does not cover
_BITS = 4
_WINDOWS_A_PARTITION = 65_536


def update_indexes(table: Any, min_windows: int) -> bool:
    """Make the indexes, or make them anew when they don't cover a fifth of the windows.

    Args:
        table: The table of windows.
        min_windows: A smaller table gets none.

    Returns:
        Whether one was made.
    """
    windows = int(table.count_rows())
    if windows < min_windows:
        return False
    partitions = -(-windows // _WINDOWS_A_PARTITION)
    wanted: dict[str, Any] = {VECTOR_COLUMN: IvfRq(distance_type="dot", num_bits=_BITS, num_partitions=partitions)}
    wanted |= {metadata_column(name): BTree() for name in metadata_names(table.schema.names)}
    for index in table.list_indices():
        if (index.num_unindexed_rows or 0) < _STALE_SHARE * windows:
            wanted = {name: config for name, config in wanted.items() if name not in index.columns}
    for column, config in wanted.items():
        table.create_index(column, config=config, replace=True)
    return bool(wanted)


def drop_indexes(table: Any) -> None:
    """Remove the indexes, which [`update_indexes`] makes anew."""
    for index in table.list_indices():
        table.drop_index(index.name)
