"""Lookup of the rows of videos in the table of windows, to search only some videos.

The database checks a condition for each window, which takes longer than the search itself for a million windows. So a
filter is evaluated in memory, once per video, and the rows of the matching videos are looked up.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import FIRST_WINDOWS, id_from_text, id_to_text, metadata_column, metadata_names, video_key
from .database import all_rows, among
from .filters import pattern_to_regex
from .roots import Roots

_ROWS_A_PART = 2**16


@dataclass(frozen=True, eq=False)
class ChosenVideos:
    """Some videos of one version of an index.

    Args:
        keys: Keys of the videos, see `columns.video_key`.
        starts: First row of each run of consecutive rows of the videos, ascending.
        stops: The row after each run.
    """

    keys: list[str]
    starts: np.ndarray
    stops: np.ndarray

    @cached_property
    def num_rows(self) -> int:
        """Number of windows of the videos."""
        return int((self.stops - self.starts).sum())

    @cached_property
    def sql(self) -> str:
        """SQL condition that only rows of the videos satisfy, in any table."""
        return among(self.keys)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Return for each row whether it belongs to one of the videos."""
        if not len(self.starts):
            return np.zeros(len(rows), dtype=bool)
        runs = np.searchsorted(self.starts, rows, side="right") - 1
        return (runs >= 0) & (rows < self.stops[runs])

    def parts(self, size: int = _ROWS_A_PART) -> Iterator[np.ndarray]:
        """Yield the rows of the videos in ascending order, up to `size` at a time."""
        ends = np.cumsum(self.stops - self.starts)
        offsets = self.stops - ends  # from the position among these rows to the row
        for first in range(0, self.num_rows, size):
            positions = np.arange(first, min(first + size, self.num_rows))
            yield positions + offsets[np.searchsorted(ends, positions, side="right")]


class VideoRows:
    """The videos of one version of an index with their rows and the values for filters.

    Args:
        table: The table of windows.
        roots: Present locations of the folders of the videos.
    """

    def __init__(self, table: Any, roots: Roots) -> None:
        names = [metadata_column(name) for name in metadata_names(table.schema.names)]
        self._videos = all_rows(table.search().where(FIRST_WINDOWS).select(["key", "video", *names])).combine_chunks()
        self._roots = roots
        rows = all_rows(table.search().select(["key"]).with_row_id(True))
        of_rows = pc.fill_null(pc.index_in(rows["key"], self._videos["key"]), -1).to_numpy()
        self._starts, self._stops, self._of_runs = _runs(rows["_rowid"].to_numpy().astype(np.int64), of_rows)

    def choose(
        self,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
        videos: Collection[str] | None = None,
    ) -> ChosenVideos:
        """Choose the videos that match a filter. The index must have metadata of the given names.

        Args:
            path: A pattern as in [`filters.pattern_to_regex`].
            metadata: Names and their values.
            videos: Ids of videos.
        """
        fits = np.ones(len(self._videos), dtype=bool)
        if path is not None:
            fits &= _true(pc.match_substring_regex(self._present, pattern_to_regex(path)))
        for name, value in (metadata or {}).items():
            fits &= _true(pc.equal(self._videos[metadata_column(name)], id_to_text(value)))
        if videos is not None:
            some = pa.array([video_key(self._roots.to_name(video)) for video in videos], pa.string())
            fits &= _true(pc.is_in(self._videos["key"], some))
        chosen = np.append(fits, False)[self._of_runs]  # runs of an unknown video (-1) get the appended False
        keys = self._videos["key"].filter(pa.array(fits)).to_pylist()
        return ChosenVideos(keys, self._starts[chosen], self._stops[chosen])

    @cached_property
    def _present(self) -> pa.Array:
        """The present path of each video, as text."""
        if not self._roots.moves:
            return self._videos["video"]
        videos = map(id_from_text, self._videos["video"].to_pylist())
        return pa.array([id_to_text(self._roots.to_present(video)) for video in videos], pa.string())


def _true(values: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _runs(rows: np.ndarray, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group consecutive rows of one video into runs: their first rows, the rows after them, and their videos."""
    order = np.argsort(rows, kind="stable")  # fast if the rows are sorted already
    rows, videos = rows[order], videos[order]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (np.diff(rows) != 1) | (np.diff(videos) != 0)
    ends = np.roll(begins, -1)  # a run ends before the next one begins, and the last run at the last row
    return rows[begins], rows[ends] + 1, videos[begins]


class LatestVideoRows:
    """Cache of the latest [`VideoRows`], because many searches use the same version."""

    def __init__(self) -> None:
        self._latest: tuple[tuple[int, Roots], VideoRows] | None = None

    def of(self, table: Any, roots: Roots) -> VideoRows:
        """Return the [`VideoRows`] of the version at which a table of windows is opened."""
        latest, version = self._latest, (int(table.version), roots)
        if latest is None or latest[0] != version:
            latest = self._latest = version, VideoRows(table, roots)
        return latest[1]
