"""One version of an index for reading, which later commits don't change.

- Candidates for a query are found without reading frames, in an index of one vector per window: the mean of its frame
  embeddings, which is not normalised. Its product with a query is the mean of the frames' cosines; the score is never
  below this mean and seldom far above it. An index of all frames would have a dozen times as many vectors, most of
  them nearly equal, and cost a dozen times as much. The mean only selects candidates, which are then scored from all
  their frames.
- The vector index takes twice as long if it has to check a condition for each window. So candidates among some videos
  are selected from the candidates among all windows. If these are too few, because the videos are unlike the query,
  the index is searched again with a condition. If few windows are chosen, their means are compared without the index.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from .columns import (
    FIRST_WINDOWS,
    VECTOR_COLUMN,
    id_from_text,
    metadata_column,
    metadata_names,
    metadata_rows,
    split_signature,
    video_key,
)
from .database import all_rows, among, open_table
from .matching import half_to_single
from .records import IndexedMoment, SpokenWindow, StoredVideo, WindowBatch, WindowDetails
from .roots import Roots
from .spoken import SPOKEN, find_spoken
from .store_errors import reading
from .video_rows import ChosenVideos, LatestVideoRows

_WINDOWS_A_BATCH = 1024  # with 12 frames each 12 MiB in float16, and 24 MiB in float32
_ALL_PARTITIONS = 2**14  # more than an index has
_MORE_THAN_EXPECTED = 1.6  # a margin, because windows of one video rank close together
_MOST_VIDEOS_IN_SQL = 10_000  # parsing such a condition takes as long as checking it for a million windows
_SCORED = ["video", "start", "end", "frames"]
_COVER = ["video", "window", "frame_times", "thumbnail"]


class Snapshot:
    """A version of an index, by default the latest at the time of [`Store.snapshot`].

    Every method raises `OSError` if the index can't be read.
    """

    def __init__(self, path: str, database: Any, table: Any, roots: Roots, video_rows: LatestVideoRows) -> None:
        self.path = path
        self.roots = roots
        self._database = database
        self._table = table
        self._video_rows = video_rows

    @property
    def version(self) -> tuple[int, Roots]:
        """Version of the windows and the moved folders, different for each state of the index."""
        return int(self._table.version), self.roots

    def __len__(self) -> int:
        """Number of windows."""
        with reading(self.path):
            return int(self._table.count_rows())

    def video_ids(self) -> list[str]:
        """Return the ids of all videos, sorted."""
        return sorted(map(self._present, self._rows(FIRST_WINDOWS, ["video"])["video"].to_pylist()))

    def videos(self, chosen: ChosenVideos | None = None) -> list[StoredVideo]:
        """Return all videos, or the chosen ones, with their metadata, sorted by id."""
        where = FIRST_WINDOWS if chosen is None else f"{FIRST_WINDOWS} AND {chosen.sql}"
        return sorted(self._videos(where), key=lambda video: video.video_id)

    def video(self, video_id: str) -> StoredVideo | None:
        """Return a video, or `None` if it is not indexed."""
        videos = self._videos(f"{FIRST_WINDOWS} AND key = '{video_key(self.roots.to_name(video_id))}'")
        return next((video for video in videos if video.video_id == video_id), None)

    def window(self, window: str) -> IndexedMoment | None:
        """Return a window by its name, or `None` if there is none."""
        key, _, number = window.partition("-")
        # Only text in the form of a name becomes part of an SQL condition.
        if not (len(key) == 16 and set(key) <= set("0123456789abcdef") and number.isascii() and number.isdigit()):
            return None
        rows = self._rows(f"window = '{window}'", ["video", "signature", "start", "end"]).to_pylist()
        if not rows:
            return None
        signature, _ = split_signature(rows[0]["signature"])
        return IndexedMoment(self._present(rows[0]["video"]), signature, rows[0]["start"], rows[0]["end"])

    def metadata_names(self) -> list[str]:
        """Return the names of metadata that videos of the index have or had, sorted."""
        return sorted(metadata_names(self._table.schema.names))

    def check_metadata(self, names: Iterable[str]) -> None:
        """Check that videos have or had metadata of some names.

        Raises:
            ValueError: If there are no metadata of a name.
        """
        existing = self.metadata_names()
        for name in names:
            if name not in existing:
                has = f"it has {', '.join(map(repr, existing))}" if existing else "it has none"
                raise ValueError(f"{self.path} has no metadata {name!r}: {has}")

    def choose(
        self,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
        videos: Collection[str] | None = None,
    ) -> ChosenVideos | None:
        """Choose the videos that match a path pattern, have some metadata values and have one of some ids.

        Args:
            path: A pattern as in [`filters.pattern_to_regex`].
            metadata: Names and their values.
            videos: Ids of videos.

        Returns:
            The videos, or `None` if there is no condition.

        Raises:
            ValueError: If no video has metadata of such a name, or the pattern is longer than a path can be.
        """
        self.check_metadata(metadata or ())
        if path is None and not metadata and videos is None:
            return None
        with reading(self.path):
            return self._video_rows.of(self._table, self.roots).choose(path, metadata, videos)

    def batches(self, chosen: ChosenVideos | None = None) -> Iterator[WindowBatch]:
        """Yield all windows, or the windows of the chosen videos, in batches."""
        if chosen is not None:
            for rows in chosen.parts(_WINDOWS_A_BATCH):
                yield from self.take(rows)
            return
        with reading(self.path):
            search = self._table.search().select(_SCORED).with_row_id(True)
            for batch in search.limit(None).to_batches(batch_size=_WINDOWS_A_BATCH):
                if batch.num_rows:
                    yield _window_batch(batch, self._present)

    def row_ids(self) -> list[int]:
        """Return the ids of all rows, also of rows that can't be read."""
        with reading(self.path):
            rows: list[int] = all_rows(self._table.search().select(["_rowid"]))["_rowid"].to_pylist()
        return rows

    def whole_rows(self, rows: Sequence[int]) -> pa.Table:
        """Return all columns of some windows, and the column `_rowid`."""
        with reading(self.path):
            return self._table.take_row_ids(sorted(rows)).with_row_id().to_arrow()

    def take(self, rows: Sequence[int] | np.ndarray) -> Iterator[WindowBatch]:
        """Yield some windows by their rows, in batches."""
        for batch in self._take(rows, _SCORED).to_batches():
            yield _window_batch(batch, self._present)

    def unit_frames(self, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """Return the normalised frame embeddings of some windows by row, each `(T, D)` in float32."""
        frames = {}
        for batch in self.take(rows):
            starts = np.cumsum(batch.lengths) - batch.lengths
            for row, start, length in zip(batch.rows.tolist(), starts, batch.lengths, strict=True):
                frames[row] = half_to_single(batch.frames[start : start + length])
        return frames

    def details(self, rows: Sequence[int]) -> dict[int, WindowDetails]:
        """Return the details that results show of some windows, by row."""
        columns = ["window", "frame_times", "thumbnail", *self._metadata_columns()]
        table = self._take(rows, columns)
        shown = table.select(["_rowid", "window", "frame_times", "thumbnail"]).to_pylist()
        return {
            row.pop("_rowid"): WindowDetails(**row, metadata=metadata)
            for row, metadata in zip(shown, metadata_rows(table), strict=True)
        }

    def covers(self, video_ids: Collection[str]) -> dict[str, WindowDetails]:
        """Return the details of the first window of some videos, by id, for a list with pictures."""
        rows = self._rows(f"{FIRST_WINDOWS} AND {self._among(video_ids)}", [*_COVER, *self._metadata_columns()])
        videos = map(self._present, rows["video"].to_pylist())
        shown = zip(rows.select(_COVER[1:]).to_pylist(), metadata_rows(rows), strict=True)
        return {
            video: WindowDetails(**row, metadata=metadata)
            for video, (row, metadata) in zip(videos, shown, strict=True)
        }

    def has_vector_index(self) -> bool:
        """Whether [`Snapshot.candidates`] can be called. Only large indexes have one."""
        with reading(self.path):
            return any(list(index.columns) == [VECTOR_COLUMN] for index in self._table.list_indices())

    def candidates(self, query: np.ndarray, count: int, chosen: ChosenVideos | None = None) -> np.ndarray:
        """Return the rows whose mean is nearest to a query. Rows newer than the vector index are included.

        Args:
            query: Normalised query, `(D,)`.
            count: Number of rows.
            chosen: The videos to choose from.
        """
        if chosen is None:
            return self._nearest(query, count)
        # The best `limit` of all rows include enough chosen ones, if these are distributed like the other rows.
        limit = int(_MORE_THAN_EXPECTED * count * len(self) / max(1, chosen.num_rows))
        while limit < chosen.num_rows:
            rows = self._nearest(query, limit)
            rows = rows[chosen.has(rows)]
            if len(rows) >= count:
                return rows[:count]
            if len(chosen.keys) <= _MOST_VIDEOS_IN_SQL:
                return self._nearest(query, count, chosen.sql)
            limit *= 4
        return self._nearest_of(chosen, query, count)

    def _nearest(self, query: np.ndarray, count: int, where: str | None = None) -> np.ndarray:
        """Search the vector index for the rows whose mean is nearest to a query, nearest first."""
        with reading(self.path):
            search = self._table.search(query.astype(np.float32), vector_column_name=VECTOR_COLUMN)
            # Texts lie apart from all frames, so the partitions nearest to a text don't contain the nearest frames.
            search = search.distance_type("dot").nprobes(_ALL_PARTITIONS)
            if where is not None:
                search = search.where(where, prefilter=True)
            table = search.select(["_distance"]).with_row_id(True).limit(count).to_arrow()
        return table["_rowid"].to_numpy().astype(np.int64)

    def _nearest_of(self, chosen: ChosenVideos, query: np.ndarray, count: int) -> np.ndarray:
        """Search the rows of some videos, without the vector index, for those whose mean is nearest to a query."""
        rows, products = np.empty(0, np.int64), np.empty(0, np.float32)
        for part in chosen.parts():
            means = self._take(part, [VECTOR_COLUMN])
            values = means[VECTOR_COLUMN].combine_chunks().flatten().to_numpy().reshape(len(part), -1)
            rows = np.append(rows, means["_rowid"].to_numpy().astype(np.int64))
            products = np.append(products, half_to_single(values) @ query.astype(np.float32))
            best = np.argsort(-products, kind="stable")[:count]
            rows, products = rows[best], products[best]
        return rows

    def num_spoken(self) -> int:
        """Return the number of windows with spoken words, by the subtitles of their videos."""
        with reading(self.path):
            if self._spoken is None:
                return 0
            rows = all_rows(self._spoken.search().select(["key", "start"]))
        return int(rows.group_by(["key", "start"]).aggregate([]).num_rows)

    def spoken(self, text: str, count: int, chosen: ChosenVideos | None = None) -> list[SpokenWindow]:
        """Return the windows in which all words of a text are spoken, best first. Ties go by video, then start.

        Args:
            text: The text.
            count: Maximum number of windows.
            chosen: The videos to choose from.
        """
        if self._spoken is None:
            return []
        with reading(self.path):
            return find_spoken(self._spoken, text, count, self._locate, None if chosen is None else chosen.sql)

    def _locate(self, windows: Collection[str]) -> dict[str, tuple[str, int]]:
        """Return the video and the row of windows by name. A window that is missing belongs to another commit."""
        search = self._table.search().where(f"window IN ({', '.join(map(repr, windows))})")
        rows = search.select(["window", "video"]).with_row_id(True).limit(None).to_arrow().to_pylist()
        return {row["window"]: (self._present(row["video"]), row["_rowid"]) for row in rows}

    @cached_property
    def _spoken(self) -> Any:
        """The table of spoken words; `None` if no video has subtitles."""
        with reading(self.path):
            return open_table(self._database, SPOKEN)

    def _rows(self, where: str, columns: Sequence[str]) -> pa.Table:
        with reading(self.path):
            return all_rows(self._table.search().where(where).select(list(columns)))

    def _take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str]) -> pa.Table:
        if not len(rows):
            return pa.table({name: pa.array([], pa.null()) for name in [*columns, "_rowid"]})
        with reading(self.path):
            # Reading is fastest in the order of the file.
            return self._table.take_row_ids(np.sort(rows).tolist()).select(list(columns)).with_row_id().to_arrow()

    def _among(self, video_ids: Collection[str]) -> str:
        """Return an SQL condition that only the rows of some videos satisfy."""
        return among(video_key(self.roots.to_name(video_id)) for video_id in video_ids)

    def _present(self, text: str) -> str:
        return self.roots.to_present(id_from_text(text))

    def _metadata_columns(self) -> list[str]:
        return [metadata_column(name) for name in self.metadata_names()]

    def _videos(self, where: str) -> list[StoredVideo]:
        columns = ["video", "signature", "duration"]
        table = self._rows(where, [*columns, *self._metadata_columns()])
        rows = zip(*(table[name].to_pylist() for name in columns), metadata_rows(table), strict=True)
        return [
            StoredVideo(self._present(video), *split_signature(signature), duration, metadata)
            for video, signature, duration, metadata in rows
        ]


def _window_batch(batch: pa.RecordBatch, video_id: Callable[[str], str]) -> WindowBatch:
    """Return windows with their frames as a view of the column, without a copy."""
    column = batch.column("frames")  # list<fixed_size_list<float16, D>>
    flat = column.flatten()  # respects the offset of a slice

    def moments(positions: np.ndarray) -> list[tuple[str, float, float]]:
        columns = (batch.column(name).take(pa.array(positions)).to_pylist() for name in ("video", "start", "end"))
        return [(video_id(video), start, end) for video, start, end in zip(*columns, strict=True)]

    return WindowBatch(
        rows=batch.column("_rowid").to_numpy(),
        lengths=np.diff(column.offsets.to_numpy()),
        frames=flat.flatten().to_numpy().reshape(len(flat), flat.type.list_size),
        moments=moments,
    )
