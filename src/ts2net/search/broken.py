"""The table of videos that can't be indexed."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ..videos.broken import BrokenVideo
from .columns import id_from_text, id_to_text, video_key
from .database import delete_rows, open_table

BROKEN = "broken"
_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("video", "key", "signature", "reason")])


class BrokenTable:
    """The table of broken videos, which are identified by their names in the index. Methods raise LanceDB's errors.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> list[BrokenVideo]:
        """Return all broken videos."""
        table = self._open()
        rows = [] if table is None else table.to_arrow().to_pylist()
        return [BrokenVideo(id_from_text(row["video"]), row["reason"], row["signature"]) for row in rows]

    def add(self, videos: Sequence[BrokenVideo]) -> None:
        """Add videos that are not in the table yet."""
        rows = [
            {
                "video": id_to_text(video.video_id),
                "key": video_key(video.video_id),
                "signature": video.signature,
                "reason": video.reason.encode(errors="backslashreplace").decode(),
            }
            for video in videos
        ]
        table = self._open()
        if table is None:
            table = self._database.create_table(BROKEN, schema=_SCHEMA)
        table.add(pa.Table.from_pylist(rows, schema=_SCHEMA))

    def forget(self, keys: Iterable[str]) -> None:
        """Remove videos, by key."""
        delete_rows(self._open(), keys)

    def _open(self) -> Any:
        return open_table(self._database, BROKEN)
