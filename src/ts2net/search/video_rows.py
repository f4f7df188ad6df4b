"""Which rows of the table of windows are of which videos, to search some videos only.

Notable here: the database compares each of a million windows with a condition, which takes longer than the search
itself. So a filter is evaluated once a video and in memory, and the rows of the videos that it admits are looked up.
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
        keys: Their keys, see `columns.video_key`.
        starts: The first row of each of their runs of rows, ascending.
        stops: The row after each run.
    """

    keys: list[str]
    starts: np.ndarray
    stops: np.ndarray

    @cached_property
    def num_rows(self) -> int:
        """How many windows they have."""
        return int((self.stops - self.starts).sum())

    @cached_property
    def sql(self) -> str:
        """A condition that only their rows satisfy, in any table."""
        return among(self.keys)

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Whether rows are theirs."""
        if not len(self.starts):
            return np.zeros(len(rows), dtype=bool)
        runs = np.searchsorted(self.starts, rows, side="right") - 1
        return (runs >= 0) & (rows < self.stops[runs])

    def parts(self, size: int = _ROWS_A_PART) -> Iterator[np.ndarray]:
        """Their rows, ascending, some at a time."""
        ends = np.cumsum(self.stops - self.starts)
        offsets = self.stops - ends  # from the position among their rows to the row
        for first in range(0, self.num_rows, size):
            positions = np.arange(first, min(first + size, self.num_rows))
            yield positions + offsets[np.searchsorted(ends, positions, side="right")]


class VideoRows:
    """The videos of one version of an index, what they are filtered by, and their rows.

    Args:
        table: The table of windows.
        roots: Where the folders of its videos are now.
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
        """The videos that a filter admits. Its metadata must be of names that the index has.

        Args:
            path: A pattern as in [`filters.pattern_to_regex`].
            metadata: Names and their values.
            videos: Their ids.
        """
        fits = np.ones(len(self._videos), dtype=bool)
        if path is not None:
            fits &= _true(pc.match_substring_regex(self._present, pattern_to_regex(path)))
        for name, value in (metadata or {}).items():
            fits &= _true(pc.equal(self._videos[metadata_column(name)], id_to_text(value)))
        if videos is not None:
            some = pa.array([video_key(self._roots.to_name(video)) for video in videos], pa.string())
            fits &= _true(pc.is_in(self._videos["key"], some))
        chosen = np.append(fits, False)[self._of_runs]  # runs of no known video count as of the last one
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
    """Rows that follow one another and are of one video, as their first row, the row after, and the video."""
    order = np.argsort(rows, kind="stable")  # does nothing quickly where they are sorted
    rows, videos = rows[order], videos[order]
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (np.diff(rows) != 1) | (np.diff(videos) != 0)
    ends = np.roll(begins, -1)  # where the next one begins; the last of all is before the first
    return rows[begins], rows[ends] + 1, videos[begins]


class LatestVideoRows:
    """The [`VideoRows`] that were used last, kept since many searches are of one version."""

    def __init__(self) -> None:
        self._latest: tuple[tuple[int, Roots], VideoRows] | None = None

    def of(self, table: Any, roots: Roots) -> VideoRows:
        """Those of the version at which a table of windows is opened."""
        latest, version = self._latest, (int(table.version), roots)
        if latest is None or latest[0] != version:
            latest = self._latest = version, VideoRows(table, roots)
        return latest[1]
