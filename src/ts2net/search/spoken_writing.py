"""Read the subtitles of the videos of an index, and store the spoken words beside their windows.

Subtitles are read after the pictures were indexed, in separate processes, for every video whose subtitles have changed
since they were read. So damaged subtitles don't affect the pictures, and new ones don't require encoding anything.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from ..errors import one_line
from ..parallel.isolated import CrashError, Failure, Isolation, TimeLimitError
from ..parallel.pool import available_cores
from . import subtitle_reading
from .indexing import IndexReport
from .records import Track
from .sources import VideoFile
from .store import Store
from .subtitle_files import Subtitles, SubtitleSource, find_subtitles
from .subtitle_reading import read_tracks

_ISOLATION = Isolation(preload=(subtitle_reading.__name__,), memory=2**31)
_PATIENCE = 60.0  # seconds that reading a file may take; for a video plus its size divided by _SLOWEST
_SLOWEST = 5e6  # bytes per second
_COMMIT_SECONDS = 5.0
_COMMIT_CUES = 100_000


def write_spoken(
    store: Store, videos: Sequence[VideoFile], report: IndexReport, workers: int | None, console: Console | None
) -> None:
    """Read and store the subtitles of videos, if they have changed since they were read.

    Args:
        store: The index, open for writing.
        videos: Videos that were found. Videos that are not in the index are ignored.
        report: Report to which the results are added.
        workers: Number of processes that read; 0 reads in this one, `None` is one per core.
        console: Console for the progress; `None` shows none.

    Raises:
        StoreError: If the index can't be written.
    """
    read = store.subtitles()
    by_video = find_subtitles(video for video in videos if video.video_id in read)
    todo = {video_id: subtitles for video_id, subtitles in by_video.items() if subtitles.signature != read[video_id]}
    if not todo:
        return
    done: dict[str, tuple[Sequence[Track], str | None]] = {}

    def commit() -> None:
        store.set_spoken(done)
        report.spoken += [video_id for video_id, (tracks, _) in done.items() if tracks]
        done.clear()

    last, cues = time.monotonic(), 0
    with closing(_read_all(todo, report, workers)) as results, _progress(console) as bar:
        task = bar.add_task("", total=len(todo))
        try:
            for video_id, tracks, signature in results:
                done[video_id] = (tracks, signature)
                bar.advance(task)
                cues += sum(map(len, tracks))
                if cues >= _COMMIT_CUES or time.monotonic() - last >= _COMMIT_SECONDS:
                    commit()
                    last, cues = time.monotonic(), 0
        finally:
            if done:
                commit()


def _progress(console: Console | None) -> Progress:
    is_shown = console is not None and console.is_terminal
    columns = ("reading subtitles", BarColumn(bar_width=20), MofNCompleteColumn(), "videos")
    return Progress(*columns, console=console, transient=True, disable=not is_shown)


def _read_all(
    subtitles: dict[str, Subtitles], report: IndexReport, workers: int | None
) -> Generator[tuple[str, list[Track], str | None], None, None]:
    """Yield the tracks of each video and the signature of its subtitles, `None` if another try may succeed."""
    sources = [source for of_video in subtitles.values() for source in of_video.sources]
    left = {video_id: len(of_video.sources) for video_id, of_video in subtitles.items()}
    tracks: defaultdict[str, list[Track]] = defaultdict(list)
    try_again = set()
    for source, result in _results(sources, workers):
        video_id = source.video.video_id
        if isinstance(result, Failure):
            report.damaged_subtitles[source.name] = _reason(result.error, source)
            if isinstance(result.error, OSError) and not isinstance(result.error, TimeLimitError):
                try_again.add(video_id)
        else:
            tracks[video_id] += result
        left[video_id] -= 1
        if not left[video_id]:
            signature = None if video_id in try_again else subtitles[video_id].signature
            yield video_id, list(dict.fromkeys(tracks.pop(video_id, []))), signature


def _results(
    sources: Sequence[SubtitleSource], workers: int | None
) -> Iterable[tuple[SubtitleSource, list[Track] | Failure]]:
    count = min(available_cores() if workers is None else workers, len(sources))
    if count == 0:
        return ((source, _read_here(source)) for source in sources)
    return _ISOLATION.run_each(sources, read_tracks, workers=count, patience=_patience)


def _read_here(source: SubtitleSource) -> list[Track] | Failure:
    try:
        return [track for tracks in read_tracks(source) for track in tracks]
    except Exception as error:  # a damaged file may raise any error
        return Failure(error)


def _patience(source: SubtitleSource) -> float:
    return _PATIENCE + (source.video.size / _SLOWEST if source.beside is None else 0)


def _reason(error: Exception, source: SubtitleSource) -> str:
    if isinstance(error, CrashError):
        return "the process that read it crashed, twice"
    return (getattr(error, "strerror", None) or one_line(error)).removeprefix(f"{source.name}: ")
