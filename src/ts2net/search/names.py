"""The table of all video names of an index, stored apart from the windows to report which videos a damaged index lost.

A name is recorded after the commit that adds its video, and removed before the commit that drops the video. So no name
is recorded without its video, even if a process is killed. The next writer records names that are missing. The
signature of the subtitles that were read is recorded with the name, after the commit of the spoken words.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from .database import delete_rows, open_table

NAMES = "names"
_SUBTITLES = pa.field("subtitles", pa.string())  # a column that older indexes don't have
_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("key", "video", "metadata")]
    + [pa.field("windows", pa.int64()), _SUBTITLES]
)


@dataclass(frozen=True)
class NotedVideo:
    """A recorded video.

    Args:
        video: Name of the video in the index.
        windows: Number of its windows.
        metadata: Names and values of its metadata.
        subtitles: Signature of the subtitles that were read, see `subtitle_files.Subtitles`; `None` if its subtitles
            have not been searched for yet.
    """

    video: str
    windows: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    subtitles: str | None = None


class NamesTable:
    """The table of names of an index. Its methods raise LanceDB's own errors.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> dict[str, NotedVideo]:
        """Return all recorded videos, by key."""
        table = self._open()
        rows = [] if table is None else table.to_arrow().to_pylist()
        return {
            row["key"]: NotedVideo(row["video"], row["windows"], json.loads(row["metadata"]), row.get(_SUBTITLES.name))
            for row in rows
        }

    def note(self, videos: Mapping[str, NotedVideo]) -> None:
        """Record videos, by key."""
        if not videos:
            return
        rows = pa.table(
            {
                "key": list(videos),
                "video": [video.video for video in videos.values()],
                "windows": [video.windows for video in videos.values()],
                "metadata": [json.dumps(dict(video.metadata)) for video in videos.values()],
                _SUBTITLES.name: [video.subtitles for video in videos.values()],
            },
            schema=_SCHEMA,
        )
        table = self._open()
        if table is None:
            self._database.create_table(NAMES, data=rows)
        else:
            if _SUBTITLES.name not in table.schema.names:
                table.add_columns(pa.schema([_SUBTITLES]))
            table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove videos."""
        delete_rows(self._open(), keys)

    def compact(self, **settings: Any) -> None:
        """Merge the small files of the table."""
        table = self._open()
        if table is not None:
            table.optimize(**settings)

    def _open(self) -> Any:
        return open_table(self._database, NAMES)
