"""Videos decoded by processes of their own, their windows taken as they come.

Notable here:
- What a worker has decoded waits in its pipe until it is taken, so that a worker is never more than a window ahead,
  however long its video.
- A hostile or damaged video may crash the library that reads it, and with it the process. A worker has one video at a
  time, so it is known which; it is tried once more, and then it is the one that is broken.
- Nor may one take for ever: a worker of which nothing comes is killed, and its video is broken.
- Workers are copies of one process that has imported all they need and has no threads: most of a worker's time and
  memory would else be PyTorch's and transformers' code. One that is forked from this process would inherit the locks
  of threads it doesn't have.
- A worker whose parent was killed finds its pipe closed, and ends.
"""

import contextlib
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..videos.broken import BrokenVideo
from . import streaming
from .sources import VideoFile
from .streaming import Decoded, EndOfVideo

Decode = Callable[[VideoFile], Iterator[Decoded]]
"""`decode_windows` but for the video, in a form that can be pickled."""

_PATIENCE = 120.0  # seconds that may pass without a window, and for each byte of the file as long as this takes:
_SLOWEST = 2e5  # bytes a second of a film of few bits that has to be decoded as a whole before its first window
_LOOK_AROUND = 0.5  # seconds until it is seen that there is to be a stop, or that nothing comes


def decode_all(
    files: Iterable[VideoFile], decode: Decode, workers: int, stop: threading.Event
) -> Generator[Decoded, None, None]:
    """Decode videos side by side.

    Args:
        files: The videos. One is taken when a worker is free for it.
        decode: Decodes one.
        workers: How many processes, at least 1.
        stop: Set to end before all is decoded.

    Yields:
        The windows of each video in order, and then its end or that it is broken; those of several videos mixed. A
        video whose process crashed begins again from its first window. One of which nothing comes for two minutes,
        and five more for each 60 MB, is broken.

    Raises:
        RuntimeError: If no worker can be started.
    """
    waiting = iter(files)
    running: dict[Connection, _Worker] = {}

    def start(file: VideoFile, *, is_second_try: bool = False) -> None:
        worker = _Worker(decode, file, is_second_try)
        running[worker.pipe] = worker

    def end(worker: _Worker) -> None:
        del running[worker.pipe]
        worker.close()

    get_ready()
    try:
        for file in islice(waiting, workers):
            start(file)
        while running and not stop.is_set():
            with_news = wait(list(running), timeout=_LOOK_AROUND)
            now = time.monotonic()
            for worker in [worker for pipe, worker in running.items() if pipe not in with_news]:
                if now > worker.deadline:
                    end(worker)
                    yield BrokenVideo(worker.file.video_id, worker.complaint())
                    for following in islice(waiting, 1):
                        start(following)
            for pipe in with_news:
                assert isinstance(pipe, Connection)
                worker = running[pipe]
                try:
                    decoded: Decoded | None = pipe.recv()
                except (EOFError, OSError):
                    end(worker)
                    file = worker.crashed_with()
                    if not worker.is_second_try:
                        start(file, is_second_try=True)
                        continue
                    yield BrokenVideo(file.video_id, "the process that decoded it crashed, twice")
                    for following in islice(waiting, 1):
                        start(following)
                    continue
                if decoded is None:
                    worker.begin()
                    continue
                worker.extend_deadline()
                yield decoded
                if isinstance(decoded, (EndOfVideo, BrokenVideo)):
                    next_file = next(waiting, None)
                    if next_file is not None:
                        worker.begin(next_file)
                    else:
                        end(worker)
    finally:
        for worker in running.values():
            worker.close()


def get_ready() -> None:
    """Begin what takes a while to begin, so that it is done when it is needed."""
    if process_context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    # Ctrl-C reaches every process of the terminal. The parent decides what comes of it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def process_context() -> Any:
    """What starts processes that have all imported that decoding needs: that of `multiprocessing`, set up."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([streaming.__name__])
    return context


class _Worker:
    """A process, and this end of the pipe to it. It says when it is ready for its first video."""

    def __init__(self, decode: Decode, file: VideoFile, is_second_try: bool) -> None:
        self.is_second_try = is_second_try
        self.file = file
        self.deadline = math.inf  # until it is ready, which takes as long as the system does
        self._is_ready = False
        context = process_context()
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs, decode), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, file: VideoFile | None = None) -> None:
        """Have it decode a video, or the first one now that it is ready."""
        if file is not None:
            self.file, self.is_second_try = file, False
        self._is_ready = True
        self.extend_deadline()
        with contextlib.suppress(OSError):  # it died in the meantime, which shows when it is waited for
            self.pipe.send(self.file)

    def extend_deadline(self) -> None:
        """Give it as long again, now that something has come."""
        self.deadline = time.monotonic() + self._patience()

    def _patience(self) -> float:
        return _PATIENCE + self.file.size / _SLOWEST

    def complaint(self) -> str:
        """What is wrong with a video of which nothing comes."""
        return f"nothing came of it for {self._patience():,.0f} s"

    def crashed_with(self) -> VideoFile:
        """The video that ended it."""
        if not self._is_ready:
            raise RuntimeError(
                "no worker process could be started; a script has to keep what it runs under "
                "`if __name__ == '__main__':`"
            )
        return self.file

    def close(self) -> None:
        self.pipe.close()
        self._process.kill()  # it holds nothing that has to be put in order
        self._process.join()


def _work(pipe: Connection, decode: Decode) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        pipe.send(None)  # it is ready
        while True:
            file = pipe.recv()
            for decoded in decode(file):
                pipe.send(decoded)
