"""Jobs done side by side, their results in order, and no job able to end the others.

Notable here: a hostile or damaged video may crash the library that reads it, and with it the whole process. The jobs
of a pool that broke are therefore run once more, each in a process of its own, and the one that ends its process again
is told apart from its innocent neighbours. A worker whose parent is killed ends too, instead of waiting for ever.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

T = TypeVar("T")


class Died(Generic[T]):
    """Stands for the result of a job that ended its process."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_order(jobs: Iterable[Callable[[], T]], workers: int) -> Generator[T | Died[T], None, None]:
    """Runs jobs, a few ahead of the one whose result is taken.

    Args:
        jobs: functions without arguments that can be pickled. What they raise is raised here.
        workers: how many processes; 0 runs the jobs in this one.

    Yields:
        The results, in the order of the jobs.

    Raises:
        RuntimeError: no worker could be started.
    """
    if workers == 0:
        for job in jobs:
            yield job()
        return
    pool = _start(workers)
    waiting: deque[tuple[Callable[[], T], Future[T | Died[T]]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, _submit(pool, job)))
            if len(waiting) < 2 * workers:
                continue
            if _broke(waiting[0][1]):
                pool.shutdown()
                waiting, pool = _each_alone(waiting, workers), _start(workers)
            yield waiting.popleft()[1].result()
        while waiting:
            if _broke(waiting[0][1]):
                waiting = _each_alone(waiting, workers)
            yield waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # Spawned, for a forked process inherits the locks of threads it doesn't have, PyTorch's and FFmpeg's among them.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "no worker process could be started; a script has to keep what it runs under `if __name__ == '__main__':`"
        ) from error
    return pool


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal: the parent decides
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when its parent does, also when that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _submit(pool: ProcessPoolExecutor, job: Callable[[], T]) -> "Future[T | Died[T]]":
    try:
        return pool.submit(job)
    except BrokenProcessPool as error:
        future: Future[T | Died[T]] = Future()
        future.set_exception(error)
        return future


def _broke(future: "Future[T | Died[T]]") -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _each_alone(
    waiting: "deque[tuple[Callable[[], T], Future[T | Died[T]]]]", workers: int
) -> "deque[tuple[Callable[[], T], Future[T | Died[T]]]]":
    """Runs those jobs again that a pool was lost with, so that only their own process can end with them."""

    def run(job: Callable[[], T], future: "Future[T | Died[T]]") -> "Future[T | Died[T]]":
        if not _broke(future):
            return future
        with _start(1) as pool:
            again = _submit(pool, job)
            if not _broke(again):
                return again
        died: Future[T | Died[T]] = Future()
        died.set_result(Died())
        return died

    with ThreadPoolExecutor(workers) as threads:
        futures = list(threads.map(run, *zip(*waiting, strict=True)))
    return deque(zip((job for job, _ in waiting), futures, strict=True))
