"""Process pool with results in order, in which a crash costs only one job.

A malicious or damaged video may crash the library that reads it, and the process with it. A crash breaks the whole
pool, so the unfinished jobs run once more, each in its own process. This shows which job crashes, and the other jobs
complete. Workers end when their parent is killed.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

from .isolated import CrashError, Isolation, end_with_parent

T = TypeVar("T")


class Died(Generic[T]):
    """Result of a job that crashed its process twice."""


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_order(
    jobs: Iterable[Callable[[], T]], workers: int, *, preload: tuple[str, ...] = ()
) -> Generator[T | Died[T], None, None]:
    """Run jobs in worker processes, a few jobs ahead of the consumer.

    Args:
        jobs: Picklable functions without arguments. The exception of a job is raised in place of its result.
        workers: Number of processes; 0 runs the jobs in the current process.
        preload: See [`Isolation`].

    Yields:
        The results in the order of the jobs; [`Died`] for a job that crashed its process twice.

    Raises:
        RuntimeError: If no worker can be started.
    """
    if workers == 0:
        for job in jobs:
            yield job()
        return
    isolation = Isolation(preload)
    pool = _start(isolation, workers)
    waiting: deque[tuple[Callable[[], T], Future[T | Died[T]]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, _submit(pool, job)))
            if len(waiting) < 2 * workers:
                continue
            if _broke(waiting[0][1]):
                pool.shutdown()
                waiting, pool = _each_alone(isolation, waiting, workers), _start(isolation, workers)
            yield waiting.popleft()[1].result()
        while waiting:
            if _broke(waiting[0][1]):
                waiting = _each_alone(isolation, waiting, workers)
            yield waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(isolation: Isolation, workers: int) -> ProcessPoolExecutor:
    isolation.start_server()
    pool = ProcessPoolExecutor(workers, isolation.context(), initializer=_prepare_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "no worker process could be started; a script has to keep what it runs under `if __name__ == '__main__':`"
        ) from error
    return pool


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; only the parent should handle it
    end_with_parent()


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
    isolation: Isolation, waiting: "deque[tuple[Callable[[], T], Future[T | Died[T]]]]", workers: int
) -> "deque[tuple[Callable[[], T], Future[T | Died[T]]]]":
    """Run the unfinished jobs of a broken pool again, each in its own process."""

    def run(job: Callable[[], T], future: "Future[T | Died[T]]") -> "Future[T | Died[T]]":
        if not _broke(future):
            return future
        again: Future[T | Died[T]] = Future()
        try:
            again.set_result(isolation.run(job))
        except CrashError:
            again.set_result(Died())
        except Exception as error:
            again.set_exception(error)
        return again

    with ThreadPoolExecutor(workers) as threads:
        futures = list(threads.map(run, *zip(*waiting, strict=True)))
    return deque(zip((job for job, _ in waiting), futures, strict=True))
