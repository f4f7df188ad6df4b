"""Commit the videos of an engine while it encodes."""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from rich.console import Console

from ..videos.broken import BrokenVideo
from .engines import assembling
from .index_plan import Plan
from .indexing import IndexReport
from .indexing_progress import indexing_progress
from .records import IndexedVideo
from .sources import VideoFile, content_digest, locate
from .store import Store

_COMMIT_SECONDS = 5.0
_COMMIT_WINDOWS = 4096  # about 50 MB


def write_videos(
    store: Store,
    outcomes: Generator[assembling.Outcome, None, None],
    plan: Plan,
    report: IndexReport,
    console: Console | None,
) -> None:
    """Commit finished videos every few seconds, and also when the engine fails or is stopped.

    Args:
        store: The index, open for writing.
        outcomes: Outcomes of the engine.
        plan: The plan with the videos of the engine.
        report: Report to which the results are added.
        console: Console for the progress; `None` shows none.
    """
    files = {file.video_id: file for file in plan.todo}
    done: list[IndexedVideo] = []
    broken: list[BrokenVideo] = []

    def commit() -> None:
        store.add(done)
        store.mark_broken([video for video in broken if video not in plan.previously_broken])
        for video in done:
            (report.replaced if video.video_id in plan.present else report.indexed).append(video.video_id)
        report.broken += broken
        done.clear()
        broken.clear()

    last = time.monotonic()
    with closing(outcomes), indexing_progress(console, plan.todo) as show:
        try:
            for outcome in outcomes:
                if isinstance(outcome, assembling.Encoded):
                    done.append(replace(outcome.video, content=_content(files.get(outcome.video.video_id))))
                    report.hours += outcome.video.duration / 3600
                    if outcome.damage is not None:
                        report.damaged[outcome.video.video_id] = outcome.damage
                elif isinstance(outcome, BrokenVideo):
                    broken.append(outcome)
                show(outcome)
                windows = sum(len(video.windows) for video in done)
                if windows >= _COMMIT_WINDOWS or time.monotonic() - last >= _COMMIT_SECONDS:
                    commit()
                    last = time.monotonic()
        finally:
            commit()


def _content(file: VideoFile | None) -> str | None:
    """Return the digest of a file, or `None` if it is in an archive or has changed since it was decoded."""
    if file is None or file.member is not None:
        return None
    try:
        content = content_digest(file)
    except OSError:
        return None
    present = locate(file.video_id)
    return content if present is not None and present.signature == file.signature else None
