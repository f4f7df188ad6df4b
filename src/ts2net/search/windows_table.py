"""The table of windows. A commit adds, replaces or removes whole videos."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from .about import About
from .columns import (
    ABOUT_KEY,
    FIRST_WINDOWS,
    metadata_arrays,
    metadata_fields,
    metadata_names,
    video_key,
    window_rows,
    windows_schema,
)
from .database import STORAGE_OPTIONS, all_rows, among, open_table, replace_table
from .older_formats import converted_batches, metadata_names_of_older
from .records import IndexedVideo

WINDOWS = "windows"
VIDEOS_A_COMMIT = 64  # for changes that read and write all rows of a video

_MANY_SMALL_FILES = 16
_ROWS_A_PART = 1024


class WindowsTable:
    """The table of windows of an index, with videos by their index names. Its methods raise LanceDB's own errors.

    Args:
        database: The LanceDB database.
        table: The table of windows in the database.
    """

    def __init__(self, database: Any, table: Any) -> None:
        self._database = database
        self.table = table

    @classmethod
    def create(cls, database: Any, about: About) -> "WindowsTable":
        """Create an empty table, which must not exist yet."""
        schema = windows_schema(about)
        return cls(database, database.create_table(WINDOWS, schema=schema, storage_options=STORAGE_OPTIONS))

    @classmethod
    def open(cls, database: Any) -> "WindowsTable | None":
        """Open the table, if there is one."""
        table = open_table(database, WINDOWS)
        return None if table is None else cls(database, table)

    @property
    def about(self) -> bytes:
        """What the index was made with, as JSON for `About.from_json`."""
        content: bytes = (self.table.schema.metadata or {}).get(ABOUT_KEY, b"")
        return content

    def keys(self) -> set[str]:
        """Return the keys of all videos."""
        return set(all_rows(self.table.search().where(FIRST_WINDOWS).select(["key"]))["key"].to_pylist())

    def window_counts(self) -> Counter[str]:
        """Return the number of windows of each video, by key."""
        return Counter(all_rows(self.table.search().select(["key"]))["key"].to_pylist())

    def rows(self, keys: Iterable[str]) -> pa.Table:
        """Return all windows of some videos, with all columns."""
        return self.table.search().where(among(keys)).limit(None).to_arrow()

    def add(self, videos: Sequence[IndexedVideo]) -> None:
        """Add videos, or replace videos of the same names, in one commit."""
        self._add_metadata_columns(name for video in videos for name in video.metadata)
        rows = window_rows(videos, self.table.schema)
        keys = [video_key(video.video_id) for video in videos]
        if self.table.count_rows(f"{FIRST_WINDOWS} AND {among(keys)}"):
            self.replace(keys, rows)
        else:
            self.table.add(rows)

    def replace(self, keys: Iterable[str], rows: pa.Table) -> None:
        """Replace all windows of some videos, in one commit.

        Args:
            keys: Keys of the videos of the rows, and of videos from which all rows are removed.
            rows: The new windows.
        """
        merge = self.table.merge_insert("window").when_matched_update_all().when_not_matched_insert_all()
        merge.when_not_matched_by_source_delete(among(keys)).execute(rows)

    def drop(self, keys: Iterable[str]) -> None:
        """Remove videos, in one commit."""
        self.table.delete(among(keys))

    def set_metadata(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Replace all metadata of some videos, by key, and change nothing else."""
        self._add_metadata_columns(name for values in metadata.values() for name in values)
        names, keys = metadata_names(self.table.schema.names), list(metadata)
        for first in range(0, len(keys), VIDEOS_A_COMMIT):
            some = among(keys[first : first + VIDEOS_A_COMMIT])
            rows = all_rows(self.table.search().where(some).select(["window", "key"]))
            arrays = metadata_arrays([metadata[key] for key in rows["key"].to_pylist()], names)
            changed = pa.table({"window": rows["window"]} | arrays)
            self.table.merge_insert("window").when_matched_update_all().execute(changed)

    def keep(self, rows: Iterable[int]) -> None:
        """Keep only some windows, in one commit.

        Args:
            rows: Ids of rows, see `Snapshot.row_ids`.
        """
        kept, table = sorted(rows), self.table
        parts = (kept[first : first + _ROWS_A_PART] for first in range(0, len(kept), _ROWS_A_PART))
        tables = (table.take_row_ids(part).to_arrow().select(table.schema.names) for part in parts)
        self._overwrite(table.schema, (batch for some in tables for batch in some.to_batches()))

    def convert(self, about: About) -> None:
        """Convert an older format to the present one. All rows are replaced in one commit.

        Args:
            about: What the index was made with, in the present format.
        """
        schema = windows_schema(about, metadata_names_of_older(self.table.search(), self.table.schema.names))
        self._overwrite(schema, converted_batches(self.table.search(), schema))

    def compact(self, **settings: Any) -> bool:
        """Merge the small files of the table, if there are many. Returns whether there were many."""
        if self.table.stats()["fragment_stats"]["num_small_fragments"] < _MANY_SMALL_FILES:
            return False
        self.table.optimize(**settings)
        return True

    def _overwrite(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.table = replace_table(self._database, WINDOWS, pa.RecordBatchReader.from_batches(schema, batches))

    def _add_metadata_columns(self, names: Iterable[str]) -> None:
        new = sorted(set(names) - set(metadata_names(self.table.schema.names)))
        if new:
            self.table.add_columns(pa.schema(metadata_fields(new)))
