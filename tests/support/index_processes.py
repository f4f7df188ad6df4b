"""Processes that read and write an index beside the test, to be limited, refused or killed."""

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
    """Lets no file of this process be larger than 20 kB. What it prints goes nowhere, for that may be such a file."""
    import resource

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def add_with_little_room(path: str, video: IndexedVideo, answer: Path) -> None:
    """Adds a video where there is little room."""
    store = Store.open(path)
    have_little_room()
    try:
        store.add([video])
    except OSError as error:
        answer.write_text(str(error))


def count_windows(path: Path, settings: WindowSettings, processor: TS2NetVideoProcessor, answer: Path) -> None:
    """How many windows a video has, and the most memory that this process had while it decoded them."""
    import resource

    (file,) = find_videos([path]).videos
    windows = sum(isinstance(item, DecodedWindow) for item in decode_windows(file, settings, processor))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.write_text(f"{windows} {kilobytes * 1024}")


def index_with_many_commits(videos: Path, model: Path, out: Path) -> None:
    index_writing._COMMIT_SECONDS = 0.0  # after each video: more moments at which a kill may do harm
    settings = WindowSettings(length=2.0, step=1.0, fps=2.0)
    index_videos(videos, model, out, workers=0, batch_size=2, settings=settings)


def index_with_a_vector_index(videos: Path, model: Path, out: Path, answer: Path, has_little_room: bool) -> None:
    """Indexes where 300 windows are enough for a vector index, with little room or as much as there is."""
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
