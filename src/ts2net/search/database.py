"""Tables of the database: opening and replacing them, and conditions on their rows."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

# An exact search reads all frames, and this version of the files gives lists about twice as fast as newer ones.
STORAGE_OPTIONS = {"new_table_data_storage_version": "2.0"}
_ROWS_A_BATCH = 2**16


def open_table(database: Any, name: str) -> Any:
    """A table of a LanceDB database, or `None` if it has not so much as a first version."""
    try:
        return database.open_table(name)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error):
            return None
        raise


def replace_table(database: Any, name: str, rows: pa.Table | pa.RecordBatchReader) -> Any:
    """Make a table of some rows, in one commit, whether there is one of its name or not."""
    # LanceDB warns on standard error of overwriting a table that isn't there.
    mode = "create" if open_table(database, name) is None else "overwrite"
    return database.create_table(name, data=rows, mode=mode, storage_options=STORAGE_OPTIONS)


def all_rows(search: Any) -> pa.Table:
    """All rows that a search without a limit of its own gives, of columns that are short."""
    # By default LanceDB reads 1,024 rows at a time, which takes ten times as long.
    return search.limit(None).to_batches(batch_size=_ROWS_A_BATCH).read_all()


def among(keys: Iterable[str]) -> str:
    """SQL that only the rows of some videos satisfy.

    Args:
        keys: See `columns.video_key`.
    """
    listed = ", ".join(map(repr, keys))
    return f"key IN ({listed})" if listed else "false"


def delete_rows(table: Any, keys: Iterable[str]) -> None:
    """Delete the rows of some videos. Where there are none, or no table, nothing is committed."""
    of_videos = among(keys)
    if table is not None and table.count_rows(of_videos):
        table.delete(of_videos)
