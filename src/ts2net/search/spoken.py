"""The table of spoken words, with a row for each window of a video in which words of its subtitles begin.

ICU splits texts into words, because it supports Chinese, Japanese and Thai too. There is no stemming and there are no
stop words, so that all languages are treated alike. A window matches if all words of a text are spoken in it; a window
with the words as a phrase ranks higher.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .database import all_rows, among, delete_rows, open_table
from .records import SpokenWindow, Track
from .windows import WindowSettings, cut

SPOKEN = "spoken"
_TEXT = "text"
_SCHEMA = pa.schema(
    [
        pa.field("window", pa.string()),  # the indexed window that has its picture
        pa.field("key", pa.string()),  # of the video
        pa.field("start", pa.float64()),  # seconds
        pa.field("end", pa.float64()),
        pa.field(_TEXT, pa.string()),  # a line for each cue
        pa.field("line_starts", pa.list_(pa.float64())),  # seconds
    ]
)
_MOST_SHOWN = 200  # characters


@dataclass(frozen=True)
class TimedVideo:
    """The windows of an indexed video.

    Args:
        key: See `columns.video_key`.
        duration: Duration in seconds.
        names: The name of each window, in order.
        starts: Second at which each starts.
        ends: Second at which each ends.
    """

    key: str
    duration: float
    names: Sequence[str]
    starts: Sequence[float]
    ends: Sequence[float]


def timed_videos(table: Any, condition: str) -> Iterator[TimedVideo]:
    """Yield the videos that satisfy an SQL condition, with their windows from the table of windows."""
    columns = ["key", "window", "number", "start", "end", "duration"]
    rows = table.search().where(condition).select(columns).limit(None).to_arrow()
    by_key: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.sort_by("number").to_pylist():
        by_key[row["key"]].append(row)
    for key, windows in by_key.items():
        names, starts, ends = ([window[name] for window in windows] for name in ("window", "start", "end"))
        yield TimedVideo(key, windows[0]["duration"], names, starts, ends)


def spoken_rows(video: TimedVideo, tracks: Iterable[Track], settings: WindowSettings) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table for the spoken words of a video, separately for each track.

    A window that only repeats the frame of the previous window is not indexed. Its row has the name of that window.
    """
    begin = video.starts[0]
    if video.duration <= begin:
        return
    ends = dict(zip(video.starts, video.ends, strict=True))
    windows = [(begin + window.start, begin + window.end) for window in cut(video.duration - begin, settings)]
    for track in tracks:
        times = [cue.start for cue in track]
        for start, end in windows:
            end = ends.get(start, end)
            cues = track[bisect_right(times, start - 1e-9) : bisect_right(times, end - 1e-9)]
            if cues:
                yield {
                    "window": video.names[max(0, bisect_right(video.starts, start) - 1)],
                    "key": video.key,
                    "start": start,
                    "end": end,
                    _TEXT: "\n".join(cue.text for cue in cues),
                    "line_starts": [cue.start for cue in cues],
                }


class SpokenTable:
    """The table of spoken words. Its methods raise LanceDB's own errors.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def replace(self, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the spoken words of some videos."""
        self.forget(keys)
        if rows:
            self._open_or_create().add(pa.Table.from_pylist(list(rows), schema=_SCHEMA))

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the spoken words of some videos."""
        delete_rows(self._open(), keys)

    def rename(self, keys: Mapping[str, str]) -> None:
        """Change the keys of videos, and the names of their windows accordingly."""
        table = self._open()
        keys = {old: new for old, new in keys.items() if old != new}
        if table is None or not keys:
            return
        rows = table.search().where(among(keys)).limit(None).to_arrow().to_pylist()
        renamed = [
            row | {"key": keys[row["key"]], "window": keys[row["key"]] + row["window"].removeprefix(row["key"])}
            for row in rows
        ]
        self.replace([*keys, *keys.values()], renamed)

    def keep(self, keys: Iterable[str]) -> None:
        """Remove the spoken words of all other videos, which a killed process may have left."""
        table = self._open()
        if table is not None:
            present = all_rows(table.search().select(["key"]))["key"].unique().to_pylist()
            self.forget(set(present) - set(keys))

    def update_index(self, **settings: Any) -> None:
        """Extend the full-text index to all rows, and merge small files."""
        table = self._open()
        if table is not None:
            if not table.list_indices():
                self._index(table)
            table.optimize(**settings)

    def drop_index(self) -> None:
        """Remove the full-text index. [`SpokenTable.update_index`] creates it again."""
        table = self._open()
        for index in [] if table is None else table.list_indices():
            table.drop_index(index.name)

    def _open(self) -> Any:
        return open_table(self._database, SPOKEN)

    def _open_or_create(self) -> Any:
        table = self._open()
        if table is None:
            table = self._database.create_table(SPOKEN, schema=_SCHEMA)
            self._index(table)
        return table

    @staticmethod
    def _index(table: Any) -> None:
        from lancedb.index import FTS

        config = FTS(with_position=True, base_tokenizer="icu", stem=False, remove_stop_words=False)
        table.create_index(_TEXT, config=config, replace=True)


def find_spoken(
    table: Any,
    text: str,
    count: int,
    locate: Callable[[Collection[str]], Mapping[str, tuple[str, int]]],
    condition: str | None = None,
) -> list[SpokenWindow]:
    """Find the windows in which all words of a text are spoken, best first. Ties go by video, then start.

    Args:
        table: The table of spoken words.
        text: The text.
        count: Maximum number of windows.
        locate: Returns the video and the row of windows by name. Windows without a row are left out.
        condition: SQL condition that rows have to satisfy.
    """
    from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur, PhraseQuery

    text = text.encode(errors="replace").decode()
    query = BooleanQuery(
        [
            # Their other arguments have defaults, which type checkers don't see.
            (Occur.MUST, MatchQuery(text, _TEXT, operator=FullTextOperator.AND)),  # type: ignore[call-arg]
            (Occur.SHOULD, PhraseQuery(text, _TEXT)),  # type: ignore[call-arg]
        ]
    )
    search = table.search(query, query_type="fts")
    if condition is not None:
        search = search.where(condition, prefilter=True)
    matches = search.select(["window", "start", "end", _TEXT, "line_starts", "_score"]).limit(count).to_arrow()
    rows = matches.to_pylist()
    locations = locate({row["window"] for row in rows}) if rows else {}
    windows = [_spoken_window(row, text, *locations[row["window"]]) for row in rows if row["window"] in locations]
    return sorted(windows, key=lambda window: (-window.score, window.video_id, window.start))


def _spoken_window(match: Mapping[str, Any], text: str, video_id: str, row: int) -> SpokenWindow:
    lines = match[_TEXT].split("\n")
    line = line_of_phrase(lines, text)
    around = " ".join(lines[max(0, line - 1) : line + 2])
    words = around if len(around) <= _MOST_SHOWN else lines[line][:_MOST_SHOWN]
    second = match["line_starts"][line]
    return SpokenWindow(video_id, match["start"], match["end"], row, match["_score"], second, words)


def line_of_phrase(lines: Sequence[str], text: str) -> int:
    """Return the number of the line in which a phrase begins, or else of the line with most of its words."""
    folded = [" ".join(_words(line)) for line in lines]
    words = _words(text)
    position = f" {' '.join(folded)} ".find(f" {' '.join(words)} ")
    if position >= 0:
        ends = [len(" ".join(folded[: number + 1])) for number in range(len(folded))]
        return bisect_right(ends, position)
    return max(range(len(lines)), key=lambda number: (sum(word in folded[number] for word in words), -number))


def _words(text: str) -> list[str]:
    """Return the words of a text, case-folded and without accents."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.findall(r"\w+", plain.casefold())
