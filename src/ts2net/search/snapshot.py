"""One version of an index, to be read: what no later commit changes.

Notable here: candidates for a query are found without reading frames, in an index of one vector a window: the mean of
its frame embeddings, as it is and not brought to length 1. Its product with a query is the mean of the frames'
cosines; the score is never below that and seldom far above. An index over every frame would hold a dozen times as many
vectors, most of them nearly alike, and cost as many times more. The mean only picks candidates, which are then scored
from all their frames.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NewType

import numpy as np
import pyarrow as pa

from ..lazy import name_missing_extra
from .columns import (
    VECTOR_COLUMN,
    id_from_text,
    id_to_text,
    metadata_column,
    metadata_names,
    metadata_rows,
    split_signature,
    video_key,
)
from .database import among, open_table
from .filters import pattern_to_regex
from .matching import half_to_single
from .records import IndexedMoment, SpokenWindow, StoredVideo, WindowBatch, WindowDetails
from .roots import Roots
from .spoken import SPOKEN, find_spoken
from .store_errors import reading

with name_missing_extra():
    from lancedb.expr import col, lit

_WINDOWS_A_BATCH = 1024  # 12 MiB of 12 frames in float16, 24 of them in float32
_ALL_PARTITIONS = 2**14  # more than an index has
_SCORED = ["video", "start", "end", "frames"]
_COVER = ["video", "window", "frame_times", "thumbnail"]
_FIRST_WINDOWS = "number = 0"  # the rows that stand for whole videos

Condition = NewType("Condition", str)  # SQL that only the rows of some videos satisfy


class Snapshot:
    """The latest version of an index at the time of [`Store.snapshot`].

    Every method raises `OSError` if the index can't be read.
    """

    def __init__(self, path: str, database: Any, table: Any, roots: Roots) -> None:
        self.path = path
        self.roots = roots
        self._database = database
        self._table = table

    @property
    def version(self) -> tuple[int, Roots]:
        """Differs from that of every other state of the index."""
        return int(self._table.version), self.roots

    def __len__(self) -> int:
        """How many windows there are."""
        with reading(self.path):
            return int(self._table.count_rows())

    def video_ids(self) -> list[str]:
        """All videos, sorted."""
        return sorted(map(self._present, self._rows(_FIRST_WINDOWS, ["video"])["video"].to_pylist()))

    def videos(self, condition: Condition | None = None) -> list[StoredVideo]:
        """All videos with their metadata, or those of a condition, sorted by id."""
        where = _FIRST_WINDOWS if condition is None else f"{_FIRST_WINDOWS} AND {condition}"
        return sorted(self._videos(where), key=lambda video: video.video_id)

    def video(self, video_id: str) -> StoredVideo | None:
        """A video, if it is indexed."""
        videos = self._videos(f"{_FIRST_WINDOWS} AND key = '{video_key(self.roots.to_name(video_id))}'")
        return next((video for video in videos if video.video_id == video_id), None)

    def window(self, window: str) -> IndexedMoment | None:
        """A window by its name, if there is one."""
        key, _, number = window.partition("-")
        # Only what has the form of a name becomes part of a condition.
        if not (len(key) == 16 and set(key) <= set("0123456789abcdef") and number.isascii() and number.isdigit()):
            return None
        rows = self._rows(f"window = '{window}'", ["video", "signature", "start", "end"]).to_pylist()
        if not rows:
            return None
        signature, _ = split_signature(rows[0]["signature"])
        return IndexedMoment(self._present(rows[0]["video"]), signature, rows[0]["start"], rows[0]["end"])

    def metadata_names(self) -> list[str]:
        """The names of metadata that videos of the index have or had, sorted."""
        return sorted(metadata_names(self._table.schema.names))

    def condition(
        self,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
        videos: Collection[str] | None = None,
    ) -> Condition | None:
        """A condition for the videos that match a path pattern, have some metadata and are among some.

        Args:
            path: A pattern as in [`filters.pattern_to_regex`].
            metadata: Names and their values.
            videos: Their ids.

        Returns:
            `None` if it is true for every video.

        Raises:
            ValueError: If no video has metadata of such a name.
        """
        terms = []
        regex = "" if path is None else pattern_to_regex(path)
        if regex:
            terms.append(f"regexp_like({self._present_column()}, '{regex}')")
        names = self.metadata_names()
        for name, value in (metadata or {}).items():
            if name not in names:
                known = f"it has {', '.join(map(repr, names))}" if names else "it has none"
                raise ValueError(f"{self.path} has no metadata {name!r}: {known}")
            terms.append((col(metadata_column(name)) == lit(id_to_text(value))).to_sql())
        if videos is not None:
            terms.append(self._among(videos))
        return Condition(" AND ".join(terms)) if terms else None

    def batches(self, condition: Condition | None = None) -> Iterator[WindowBatch]:
        """All windows, or those of a condition, a batch at a time."""
        with reading(self.path):
            search = self._table.search().select(_SCORED).with_row_id(True)
            if condition is not None:
                search = search.where(condition)
            for batch in search.limit(None).to_batches(batch_size=_WINDOWS_A_BATCH):
                if batch.num_rows:
                    yield _window_batch(batch, self._present)

    def row_ids(self) -> list[int]:
        """All rows, also those that can't be read."""
        with reading(self.path):
            rows: list[int] = self._table.search().select(["_rowid"]).limit(None).to_arrow()["_rowid"].to_pylist()
        return rows

    def whole_rows(self, rows: Sequence[int]) -> pa.Table:
        """All columns of some windows, and the column `_rowid`."""
        with reading(self.path):
            return self._table.take_row_ids(sorted(rows)).with_row_id().to_arrow()

    def take(self, rows: Sequence[int]) -> Iterator[WindowBatch]:
        """Some windows by their rows."""
        for batch in self._take(rows, _SCORED).to_batches():
            yield _window_batch(batch, self._present)

    def unit_frames(self, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """The frame embeddings of some windows by row, each `(T, D)` in float32, of length 1."""
        frames = {}
        for batch in self.take(rows):
            starts = np.cumsum(batch.lengths) - batch.lengths
            for row, start, length in zip(batch.rows.tolist(), starts, batch.lengths, strict=True):
                frames[row] = half_to_single(batch.frames[start : start + length])
        return frames

    def details(self, rows: Sequence[int]) -> dict[int, WindowDetails]:
        """What a result shows of some windows, by row."""
        columns = ["window", "frame_times", "thumbnail", *self._metadata_columns()]
        table = self._take(rows, columns)
        shown = table.select(["_rowid", "window", "frame_times", "thumbnail"]).to_pylist()
        return {
            row.pop("_rowid"): WindowDetails(**row, metadata=metadata)
            for row, metadata in zip(shown, metadata_rows(table), strict=True)
        }

    def covers(self, video_ids: Collection[str]) -> dict[str, WindowDetails]:
        """The first window of some videos, by id, for a list with pictures."""
        rows = self._rows(f"{_FIRST_WINDOWS} AND {self._among(video_ids)}", [*_COVER, *self._metadata_columns()])
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

    def candidates(self, query: np.ndarray, count: int, condition: Condition | None = None) -> list[int]:
        """The rows whose mean is nearest to a query, by the vector index. Rows that are newer than it are included.

        Args:
            query: Of length 1, `(D,)`.
            count: How many.
            condition: The videos to choose from.
        """
        with reading(self.path):
            search = self._table.search(query.astype(np.float32), vector_column_name=VECTOR_COLUMN)
            # Texts lie apart from all frames, so the partitions nearest to a text do not hold the nearest frames.
            search = search.distance_type("dot").nprobes(_ALL_PARTITIONS)
            if condition is not None:
                search = search.where(condition, prefilter=True)
            table = search.select(["_distance"]).with_row_id(True).limit(count).to_arrow()
        rows: list[int] = table["_rowid"].to_pylist()
        return rows

    def num_spoken(self) -> int:
        """In how many windows something is spoken, by the subtitles of their videos."""
        with reading(self.path):
            if self._spoken is None:
                return 0
            rows = self._spoken.search().select(["key", "start"]).limit(None).to_arrow()
        return int(rows.group_by(["key", "start"]).aggregate([]).num_rows)

    def spoken_condition(self, condition: Condition | None) -> Condition | None:
        """A condition of [`Snapshot.condition`] as [`Snapshot.spoken`] takes it."""
        if condition is None or self._spoken is None:
            return None
        keys = self._rows(f"{_FIRST_WINDOWS} AND {condition}", ["key"])["key"].to_pylist()
        return Condition(among(keys))

    def spoken(self, text: str, count: int, condition: Condition | None = None) -> list[SpokenWindow]:
        """The windows in which all words of a text are spoken, best first; ties go by video, then start.

        Args:
            text: The text.
            count: The most windows.
            condition: The videos to choose from, by [`Snapshot.spoken_condition`].
        """
        if self._spoken is None:
            return []
        with reading(self.path):
            return find_spoken(self._spoken, text, count, self._locate, condition)

    def _locate(self, windows: Collection[str]) -> dict[str, tuple[str, int]]:
        """The video and the row of windows by name; one that isn't there belongs to another commit."""
        search = self._table.search().where(f"window IN ({', '.join(map(repr, windows))})")
        rows = search.select(["window", "video"]).with_row_id(True).limit(None).to_arrow().to_pylist()
        return {row["window"]: (self._present(row["video"]), row["_rowid"]) for row in rows}

    @cached_property
    def _spoken(self) -> Any:
        """The table of what is spoken; `None` if no video has subtitles."""
        with reading(self.path):
            return open_table(self._database, SPOKEN)

    def _rows(self, where: str, columns: Sequence[str]) -> pa.Table:
        with reading(self.path):
            return self._table.search().where(where).select(list(columns)).limit(None).to_arrow()

    def _take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        if not rows:
            return pa.table({name: pa.array([], pa.null()) for name in [*columns, "_rowid"]})
        with reading(self.path):
            # Reading is fastest in the order of the file.
            return self._table.take_row_ids(sorted(rows)).select(list(columns)).with_row_id().to_arrow()

    def _among(self, video_ids: Collection[str]) -> str:
        """SQL that only the rows of some videos satisfy."""
        return among(video_key(self.roots.to_name(video_id)) for video_id in video_ids)

    def _present(self, text: str) -> str:
        return self.roots.to_present(id_from_text(text))

    def _present_column(self) -> str:
        """SQL for the present path of a video, as text."""
        expression = "video"
        for then, now in sorted(self.roots.moves, key=lambda move: len(move[0])):  # the longest one decides
            old, new = (id_to_text(root.rstrip("/\\") + os.sep) for root in (then, now))
            rest = f"substr(video, {len(old) + 1})"
            fits = f"starts_with(video, {lit(old).to_sql()})"
            expression = f"CASE WHEN {fits} THEN concat({lit(new).to_sql()}, {rest}) ELSE {expression} END"
        return expression

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
    """Windows with their frames as they lie in the column, not copied."""
    column = batch.column("frames")  # list<fixed_size_list<float16, D>>
    flat = column.flatten()  # respects where a slice begins

    def moments(positions: np.ndarray) -> list[tuple[str, float, float]]:
        columns = (batch.column(name).take(pa.array(positions)).to_pylist() for name in ("video", "start", "end"))
        return [(video_id(video), start, end) for video, start, end in zip(*columns, strict=True)]

    return WindowBatch(
        rows=batch.column("_rowid").to_numpy(),
        lengths=np.diff(column.offsets.to_numpy()),
        frames=flat.flatten().to_numpy().reshape(len(flat), flat.type.list_size),
        moments=moments,
    )
