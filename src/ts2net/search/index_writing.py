"""Encode videos with an engine, and commit them as they are done."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing

from rich.console import Console

from ..parallel.pool import available_cores
from ..videos.broken import BrokenVideo
from .decoding_workers import ISOLATION
from .encoding import WindowEncoder
from .engines import assembling, local
from .index_plan import Plan
from .indexing import IndexReport
from .indexing_progress import indexing_progress
from .records import IndexedVideo
from .sources import VideoFile
from .store import Store
from .windows import WindowSettings

_COMMIT_SECONDS = 5.0
_COMMIT_WINDOWS = 4096  # about 50 MB


def start_workers(engine: str, workers: int | None) -> None:
    """Let the processes of the local engine start in the background."""
    if engine == "local" and workers != 0:
        ISOLATION.start_server()


def encode_videos(
    files: Sequence[VideoFile],
    windows: WindowSettings,
    encoder: WindowEncoder,
    *,
    engine: str,
    workers: int | None,
    batch_size: int,
    ray_address: str | None,
) -> Generator[assembling.Outcome, None, None]:
    """Decode and encode videos with an engine; see [`index_videos`]."""
    if engine == "ray":
        from .engines import ray

        return ray.encode_videos(files, windows, encoder, batch_size=batch_size, address=ray_address)
    count = min(available_cores() if workers is None else workers, len(files))
    num_threads = max(1, available_cores() // max(1, count))
    return local.encode_videos(files, windows, encoder, workers=count, batch_size=batch_size, num_threads=num_threads)


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
