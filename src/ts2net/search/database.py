"""Helpers to open and replace tables of the database, and to select their rows."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

# An exact search reads all frames, and this file version reads lists about twice as fast as newer versions.
STORAGE_OPTIONS = {"new_table_data_storage_version": "2.0"}
_ROWS_A_BATCH = 2**16


def open_table(database: Any, name: str) -> Any:
    """Open a table of a LanceDB database. Returns `None` if the table has no version yet."""
    try:
        return database.open_table(name)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error):
            return None
        raise


def replace_table(database: Any, name: str, rows: pa.Table | pa.RecordBatchReader) -> Any:
    """Create a table from rows, in one commit. An existing table of that name is replaced."""
    # LanceDB prints a warning if a table that doesn't exist is overwritten.
    mode = "create" if open_table(database, name) is None else "overwrite"
    return database.create_table(name, data=rows, mode=mode, storage_options=STORAGE_OPTIONS)


def all_rows(search: Any) -> pa.Table:
    """Return all rows of a search that sets no limit. The selected columns should be small."""
    # By default LanceDB reads 1,024 rows at a time, which takes ten times as long.
    return search.limit(None).to_batches(batch_size=_ROWS_A_BATCH).read_all()


def among(keys: Iterable[str]) -> str:
    """Return an SQL condition that only the rows of some videos satisfy.

    Args:
        keys: Keys of the videos, see `columns.video_key`.
    """
    listed = ", ".join(map(repr, keys))
    return f"key IN ({listed})" if listed else "false"


def delete_rows(table: Any, keys: Iterable[str]) -> None:
    """Delete the rows of some videos. Nothing is committed if there are no such rows, or no table."""
    of_videos = among(keys)
    if table is not None and table.count_rows(of_videos):
        table.delete(of_videos)
