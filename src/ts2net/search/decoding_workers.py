"""Videos decoded by processes of their own, their windows taken as they come.

Notable here:
- What a worker has decoded waits in its pipe until it is taken, so that a worker is never more than a window ahead,
  however long its video.
- A hostile or damaged video may crash the library that reads it, and with it the process. A worker has one video at a
  time, so it is known which; it is tried once more, and then it is the one that is broken.
- Workers are copies of one process that has imported all they need and has no threads: most of a worker's time and
  memory would else be PyTorch's and transformers' code. One that is forked from this process would inherit the locks
  of threads it doesn't have.
- A worker whose parent was killed finds its pipe closed, and ends.
"""

import contextlib
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from . import decoding
from .decoding import Decoded, EndOfVideo
from .records import BrokenVideo
from .sources import VideoFile

Decode = Callable[[VideoFile], Iterator[Decoded]]
"""`decode_windows` but for the video, in a form that can be pickled."""

_PATIENCE = 0.5  # seconds until it is seen that there is to be a stop


def decode_all(
    files: Iterable[VideoFile], decode: Decode, workers: int, stop: threading.Event
) -> Generator[Decoded, None, None]:
    """Decode videos side by side.

    Args:
        files: The videos.
        decode: Decodes one.
        workers: How many processes, at least 1.
        stop: Set to end before all is decoded.

    Yields:
        The windows of each video in order, and then its end or that it is broken; those of several videos mixed. A
        video whose process crashed begins again from its first window.

    Raises:
        RuntimeError: If no worker can be started.
    """
    waiting = deque(files)
    busy: dict[Connection, _Worker] = {}
    get_ready()
    try:
        for _ in range(min(workers, len(waiting))):
            worker = _Worker(decode)
            busy[worker.pipe] = worker
        for worker in busy.values():
            worker.check_started()
            worker.begin(waiting.popleft())
        while busy and not stop.is_set():
            for pipe in wait(list(busy), timeout=_PATIENCE):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                try:
                    decoded: Decoded = pipe.recv()
                except (EOFError, OSError):
                    del busy[pipe]
                    worker.close()
                    again = _Worker(decode)
                    busy[again.pipe] = again
                    again.check_started()
                    if worker.is_second_try:
                        yield _crashed(worker.file)
                        _next(again, waiting, busy)
                    else:
                        again.begin(worker.file, is_second_try=True)
                    continue
                yield decoded
                if isinstance(decoded, (EndOfVideo, BrokenVideo)):
                    _next(worker, waiting, busy)
    finally:
        for worker in busy.values():
            worker.close()


def get_ready() -> None:
    """Begin what takes a while to begin, so that it is done when it is needed."""
    if _context().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    # Ctrl-C reaches every process of the terminal. The parent decides what comes of it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _context() -> Any:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([decoding.__name__])
    return context


def _next(worker: "_Worker", waiting: "deque[VideoFile]", busy: "dict[Connection, _Worker]") -> None:
    if waiting:
        worker.begin(waiting.popleft())
    else:
        del busy[worker.pipe]
        worker.close()


def _crashed(file: VideoFile) -> BrokenVideo:
    return BrokenVideo(file.name, file.signature, "the process that decoded it crashed, twice")


class _Worker:
    """A process, and this end of the pipe to it."""

    def __init__(self, decode: Decode) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, decode), daemon=True)
        self.process.start()
        theirs.close()
        self.file: VideoFile
        self.is_second_try = False

    def check_started(self) -> None:
        try:
            self.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(
                "no worker process could be started; a script has to keep what it runs under "
                "`if __name__ == '__main__':`"
            ) from None

    def begin(self, file: VideoFile, *, is_second_try: bool = False) -> None:
        self.file, self.is_second_try = file, is_second_try
        with contextlib.suppress(OSError):  # it died in the meantime, which shows when it is waited for
            self.pipe.send(file)

    def close(self) -> None:
        self.pipe.close()
        self.process.kill()  # it holds nothing that has to be put in order
        self.process.join()


def _work(pipe: Connection, decode: Decode) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        pipe.send("ready")
        while True:
            file = pipe.recv()
            for decoded in decode(file):
                pipe.send(decoded)
