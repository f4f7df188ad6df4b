"""Run jobs in separate processes with limits on time and memory.

A malicious or damaged file may crash the library that reads it, block it forever, or make it use all memory. In a
separate process, only one job is lost. The processes are forked from a server that has imported the needed modules and
runs no threads. A process forked from the main process would inherit locks held by threads that it doesn't have, and
a spawned process spends most of its time and memory on imports. Systems without fork use spawned processes.
"""

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext  # Windows has no ForkServerContext

Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")

_POLL_SECONDS = 0.5  # interval at which `run_each` checks `stop` and the deadlines while no result arrives

# Kinds of messages from a process.
_READY, _RESULT, _DONE, _FAILED = range(4)


class CrashError(RuntimeError):
    """The process of a job ended before the job did."""


class TimeLimitError(TimeoutError):
    """A job exceeded its time limit, in total (`run`) or since its last result (`run_each`).

    Attributes:
        seconds: The time limit in seconds.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:,.0f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Failure:
    """Failure of a job, in place of its remaining results.

    Attributes:
        error: `CrashError`, `TimeLimitError`, or the exception that the job raised.
    """

    error: Exception


@dataclass(frozen=True)
class Isolation:
    """Start method and memory limit of worker processes.

    Args:
        preload: Modules that the fork server imports once, before the first job. The whole program shares one server,
            so only the modules of the first `Isolation` in use are imported.
        memory: Bytes that a process may use in addition to its size at the start; `None` sets no limit. A job that
            needs more gets a `MemoryError`. Only Linux enforces the limit.
    """

    preload: tuple[str, ...] = ()
    memory: int | None = None

    def context(self) -> "ForkServerContext | SpawnContext":
        """Return the context that starts the processes: the fork server, or spawn on systems without fork."""
        if "forkserver" not in multiprocessing.get_all_start_methods():
            return multiprocessing.get_context("spawn")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*self.preload, f"{__package__}.freezing"])
        return context

    def start_server(self) -> None:
        """Start the server now, so that it is ready for the first job."""
        context = self.context()
        if context.get_start_method() != "forkserver":
            return
        from multiprocessing import forkserver

        # Ctrl-C reaches every process of the terminal, and only the parent should handle it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def run(self, function: Callable[..., T], *args: Any, seconds: float = math.inf) -> T:
        """Call a function in a new process.

        Args:
            function: The function. The function, its arguments and its result must be picklable.
            args: Arguments of the function.
            seconds: Time limit in seconds, including the start of the process.

        Returns:
            The result of the function.

        Raises:
            CrashError: If the process ends before the function returns.
            TimeLimitError: If the call takes longer than `seconds`.
            Exception: Any exception of the function.
        """
        self.start_server()
        deadline = time.monotonic() + seconds
        process: _Process[tuple[Any, ...], T] = _Process(partial(_results_of_call, function), args, self)
        try:
            while True:
                if not process.pipe.poll(None if seconds == math.inf else max(0.0, deadline - time.monotonic())):
                    raise TimeLimitError(seconds)
                kind, value = process.receive()
                if kind == _READY:
                    process.submit()
                elif kind == _FAILED:
                    raise value
                elif kind == _RESULT:
                    return value
        finally:
            process.close()

    def run_each(
        self,
        jobs: Iterable[Job],
        work: Callable[[Job], Iterable[Result]],
        *,
        workers: int,
        patience: Callable[[Job], float],
        stop: threading.Event | None = None,
    ) -> Generator[tuple[Job, Result | Failure], None, None]:
        """Run jobs in parallel, one at a time in each process.

        Results wait in the pipe of their process until they are consumed, and a process waits while its pipe is full.
        So it is at most one result ahead if the results are larger than the pipe's buffer.

        Args:
            jobs: The jobs, picklable. The next job is taken when a process becomes free.
            work: Picklable function that is called in a process with each job and yields the results of the job.
            workers: Number of processes, at least 1.
            patience: Function that returns, for a job, the seconds that may pass without a result.
            stop: Event that ends the run early when it is set.

        Yields:
            Pairs of a job and one of its results. The results of one job come in order; those of different jobs are
            interleaved. The last item of a failed job is a `Failure`. If the process of a job crashes, the job is
            restarted once and yields all of its results again.

        Raises:
            RuntimeError: If no process can be started.
        """
        waiting = iter(jobs)
        running: dict[Connection, _Process[Job, Result]] = {}

        def start(job: Job, *, is_second_try: bool = False) -> None:
            process: _Process[Job, Result] = _Process(work, job, self, is_second_try)
            running[process.pipe] = process

        def start_next() -> None:
            for job in islice(waiting, 1):
                start(job)

        def submit(process: _Process[Job, Result]) -> None:
            process.deadline = time.monotonic() + patience(process.job)
            process.submit()

        def end(process: _Process[Job, Result]) -> None:
            del running[process.pipe]
            process.close()

        self.start_server()
        try:
            for _ in range(workers):
                start_next()
            while running and not (stop is not None and stop.is_set()):
                with_news = wait(list(running), timeout=_POLL_SECONDS)
                now = time.monotonic()
                for process in [process for pipe, process in running.items() if pipe not in with_news]:
                    if now > process.deadline:
                        end(process)
                        yield process.job, Failure(TimeLimitError(patience(process.job)))
                        start_next()
                for pipe in with_news:
                    assert isinstance(pipe, Connection)
                    process = running[pipe]
                    try:
                        kind, value = process.receive()
                    except CrashError:
                        end(process)
                        if not process.is_second_try:
                            start(process.job, is_second_try=True)
                            continue
                        yield process.job, Failure(CrashError("the process crashed, twice"))
                        start_next()
                        continue
                    if kind == _READY:
                        submit(process)
                    elif kind == _RESULT:
                        process.deadline = time.monotonic() + patience(process.job)
                        yield process.job, value
                    else:
                        if kind == _FAILED:
                            yield process.job, Failure(value)
                        following = list(islice(waiting, 1))
                        if following:
                            process.job, process.is_second_try = following[0], False
                            submit(process)
                        else:
                            end(process)
        finally:
            for process in running.values():
                process.close()


def end_with_parent() -> None:
    """End this process when its parent process ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Process(Generic[Job, Result]):
    """A worker process and the parent's end of its pipe. Its first message reports that it is ready for a job."""

    def __init__(
        self, work: Callable[[Job], Iterable[Result]], job: Job, isolation: Isolation, is_second_try: bool = False
    ) -> None:
        self.job = job
        self.is_second_try = is_second_try
        self.deadline = math.inf  # until the process is ready: its start has no time limit
        self._is_ready = False
        context = isolation.context()
        self.pipe, child_pipe = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(child_pipe, work, isolation.memory), daemon=True
        )
        self._process.start()
        child_pipe.close()

    def submit(self) -> None:
        """Send the job to the process."""
        with contextlib.suppress(OSError):  # the process has crashed, which `receive` will report
            self.pipe.send(self.job)

    def receive(self) -> tuple[int, Any]:
        """Receive the next message: its kind and its value.

        Raises:
            CrashError: If the process crashed.
            RuntimeError: If the process ended before it was ready for a job.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            if self._is_ready:
                raise CrashError("the process crashed") from None
            raise RuntimeError(
                "no worker process could be started; a script has to keep what it runs under "
                "`if __name__ == '__main__':`"
            ) from None
        self._is_ready = True
        return message

    def close(self) -> None:
        self.pipe.close()
        self._process.kill()  # the process holds nothing that needs a clean shutdown
        self._process.join()


def _results_of_call(function: Callable[..., T], args: tuple[Any, ...]) -> Iterator[T]:
    yield function(*args)


def _serve(pipe: Connection, work: Callable[[Any], Iterable[Any]], memory: int | None) -> None:
    """Process the jobs from the pipe until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Limit the memory before `end_with_parent` starts a thread: the limit is relative to the current size, which is
    # too large while a new thread allocates its heap.
    if memory is not None:
        _limit_memory(memory)
    end_with_parent()
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        pipe.send((_READY, None))
        while True:
            job = pipe.recv()
            try:
                results = iter(work(job))
                for result in results:
                    pipe.send_bytes(pickle.dumps((_RESULT, result), protocol=5))
            except Exception as error:
                pipe.send((_FAILED, _portable(error)))
            else:
                pipe.send((_DONE, None))


def _portable(error: Exception) -> Exception:
    """Return a picklable form of an error, with the traceback of this process as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # the error can't be pickled, or can't be rebuilt from its message
        return RuntimeError(f"{type(error).__name__}: {error}")


def _limit_memory(most: int) -> None:
    """Limit this process to `most` bytes in addition to its current size, where the system supports it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
