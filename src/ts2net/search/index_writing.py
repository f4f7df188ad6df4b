"""Commit the videos of an engine as they are done."""

import time
from collections.abc import Generator
from contextlib import closing

from rich.console import Console

from ..videos.broken import BrokenVideo
from .engines import assembling
from .index_plan import Plan
from .indexing import IndexReport
from .indexing_progress import indexing_progress
from .records import IndexedVideo
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
    """Commit what the engine gives, every few seconds, and whatever is done when it fails or is stopped.

    Args:
        store: The index, open for writing.
        outcomes: From the engine.
        plan: What was in the index before.
        report: What was done is added to it.
        console: Where to show the progress.
    """
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
                    done.append(outcome.video)
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
