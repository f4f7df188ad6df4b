"""The table of the scores that unrelated captions reach in an index; see `calibration`."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from .database import open_table, replace_table

UNRELATED = "unrelated"
_SCHEMA = pa.schema(
    [pa.field("caption", pa.string()), pa.field("score", pa.float32()), pa.field("num_windows", pa.int64())]
)


class UnrelatedTable:
    """The table of the scores of unrelated captions. Its methods raise LanceDB's own errors.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> tuple[dict[str, float], int] | None:
        """Return the best score of each caption, and the number of windows then; `None` without scores."""
        table = open_table(self._database, UNRELATED)
        columns = None if table is None else table.to_arrow()
        if columns is None or not columns.num_rows:
            return None
        scores = zip(columns["caption"].to_pylist(), columns["score"].to_pylist(), strict=True)
        return dict(scores), columns["num_windows"][0].as_py()

    def replace(self, captions: Sequence[str], scores: Sequence[float], num_windows: int) -> None:
        """Replace all scores."""
        columns = {"caption": captions, "score": scores, "num_windows": [num_windows] * len(scores)}
        replace_table(self._database, UNRELATED, pa.table(columns, schema=_SCHEMA))
