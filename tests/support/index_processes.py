"""Processes that read and write an index alongside a test, and are limited, refused or killed."""

import os
import signal
from collections.abc import Callable
from functools import partialmethod
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support.fork_server import fork_context
from ts2net import TS2NetVideoProcessor
from ts2net.search import WindowSettings, index_videos, index_writing
from ts2net.search.decoded import DecodedWindow
from ts2net.search.records import IndexedVideo
from ts2net.search.sources import find_videos
from ts2net.search.store import Store
from ts2net.search.streaming import decode_windows


def start_process(work: Callable[..., Any], *arguments: Any) -> BaseProcess:
    process = fork_context().Process(target=work, args=arguments)
    process.start()
    return process


def run_process(work: Callable[..., Any], *arguments: Any) -> None:
    process = start_process(work, *arguments)
    process.join()
    assert process.exitcode == 0, process.exitcode


def read_and_write(path: str, answer: Path) -> None:
    lines = [str(Store.open(path).snapshot().video_ids())]
    try:
        with Store.write(path):
            lines.append("wrote")
    except BlockingIOError as error:
        lines.append(str(error))
    answer.write_text("\n".join(lines))


def have_little_room() -> None:
    """Limit files of this process to 20 kB. Its output is discarded, because it may go to a larger file."""
    import resource

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def add_with_little_room(path: str, video: IndexedVideo, answer: Path) -> None:
    """Add a video with little room on the disk."""
    store = Store.open(path)
    have_little_room()
    try:
        store.add([video])
    except OSError as error:
        answer.write_text(str(error))


def count_windows(path: Path, settings: WindowSettings, processor: TS2NetVideoProcessor, answer: Path) -> None:
    """Count the windows of a video, and measure the peak memory of this process while it decodes them."""
    import resource

    (file,) = find_videos([path]).videos
    windows = sum(isinstance(item, DecodedWindow) for item in decode_windows(file, settings, processor))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.write_text(f"{windows} {kilobytes * 1024}")


def index_with_many_commits(videos: Path, model: Path, out: Path) -> None:
    index_writing._COMMIT_SECONDS = 0.0  # commit after each video, so that a kill can hit more states
    settings = WindowSettings(length=2.0, step=1.0, fps=2.0)
    index_videos(videos, model, out, workers=0, batch_size=2, settings=settings)


def index_with_a_vector_index(videos: Path, model: Path, out: Path, answer: Path, has_little_room: bool) -> None:
    """Index with a vector index from 300 windows on, with or without little room on the disk."""
    Store.update_vector_index = partialmethod(Store.update_vector_index, 300)
    if has_little_room:
        have_little_room()
    try:
        report = index_videos(videos, model, out, workers=0)
    except OSError as error:
        answer.write_text(str(error))
        return
    has_index = Store.open(out).snapshot().has_vector_index()
    answer.write_text(f"{report.indexed} indexed, {len(report.unchanged)} unchanged, vector index: {has_index}")
