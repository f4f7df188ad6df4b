"""The names of all videos of an index once more, apart from its windows, so that a damaged index can say what it lost.

Notable here: a name is noted after the commit that adds its video, and removed before the commit that drops it. So
whenever a process is killed, no name is noted of a video that isn't there; a name that is missing is noted by the next
writer. What has been read of a video's subtitles is noted with it, after the commit of what is spoken.
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
    """A video as it is noted.

    Args:
        video: Its name in the index.
        windows: How many it has.
        metadata: Names and values.
        subtitles: The signature of the subtitles of which the words were read, see `subtitle_files.Subtitles`; `None`
            if nobody has looked for any yet.
    """

    video: str
    windows: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    subtitles: str | None = None


class NamesTable:
    """The table of names of an index. Its methods raise what LanceDB raises.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> dict[str, NotedVideo]:
        """All noted videos, by key."""
        table = self._open()
        rows = [] if table is None else table.to_arrow().to_pylist()
        return {
            row["key"]: NotedVideo(row["video"], row["windows"], json.loads(row["metadata"]), row.get(_SUBTITLES.name))
            for row in rows
        }

    def note(self, videos: Mapping[str, NotedVideo]) -> None:
        """Note videos, by key."""
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
        """Join its small files."""
        table = self._open()
        if table is not None:
            table.optimize(**settings)

    def _open(self) -> Any:
        return open_table(self._database, NAMES)
