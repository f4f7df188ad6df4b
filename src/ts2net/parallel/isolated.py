"""Jobs in processes of their own, with a limit of time and of memory.

A hostile or damaged file may crash the library that reads it, and the process with it; or hold it up for ever; or make
it take all memory. Here that costs one job. Processes are forked from a server that has imported what they need and
runs no threads: a process forked from this one would inherit the locks of threads that it doesn't have, and a spawned
one spends most of its time and memory on imports. Where there is no fork, processes are spawned.
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
    from multiprocessing.context import ForkServerContext, SpawnContext  # the first is not on Windows

Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")

_POLL_SECONDS = 0.5  # how often `run_each` looks at `stop` and at deadlines while no result comes

# Kinds of messages from a process.
_READY, _RESULT, _DONE, _FAILED = range(4)


class CrashError(RuntimeError):
    """The process of a job ended before the job did."""


class TimeLimitError(TimeoutError):
    """A job took longer than it may.

    Attributes:
        seconds: What it may take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:,.0f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Failure:
    """Takes the place of a job's remaining results.

    Attributes:
        error: `CrashError`, `TimeLimitError`, or what the job itself raised.
    """

    error: Exception


@dataclass(frozen=True)
class Isolation:
    """How processes are started, and what they may take.

    Args:
        preload: Modules to import before jobs come. The server that processes are forked from imports them once; it
            serves the whole program, so those of the first `Isolation` in use count.
        memory: Bytes that a process may take in addition to what it has when it starts; `None` is no limit. A job
            that needs more gets a `MemoryError`. Only Linux enforces it.
    """

    preload: tuple[str, ...] = ()
    memory: int | None = None

    def context(self) -> "ForkServerContext | SpawnContext":
        """What starts the processes: forks of the server, or where there is no fork, new ones."""
        if "forkserver" not in multiprocessing.get_all_start_methods():
            return multiprocessing.get_context("spawn")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*self.preload, f"{__package__}.freezing"])
        return context

    def start_server(self) -> None:
        """Start the server now, so that it is ready when the first job comes."""
        context = self.context()
        if context.get_start_method() != "forkserver":
            return
        from multiprocessing import forkserver

        # Ctrl-C reaches every process of the terminal; the parent alone decides what to do.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def run(self, function: Callable[..., T], *args: Any, seconds: float = math.inf) -> T:
        """Call a function in a process of its own.

        Args:
            function: The function. It, its arguments and its result must be picklable.
            args: Its arguments.
            seconds: How long it may take, the start of the process included.

        Returns:
            What the function returns.

        Raises:
            CrashError: If the process ends before the function returns.
            TimeLimitError: If it takes longer than `seconds`.
            Exception: What the function raises.
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
        """Work on jobs side by side, each process on one at a time.

        A result waits in its process's pipe until it is taken, so a process is at most one result ahead.

        Args:
            jobs: The jobs, picklable. One is taken when a process is free for it.
            work: Called on each job in a process, picklable; yields the job's results.
            workers: Number of processes, at least 1.
            patience: Seconds that may pass without a result of a job.
            stop: Set it to end early.

        Yields:
            Each job with its results, in the order of the job, those of several jobs mixed. A job that fails ends
            with a `Failure`. A job whose process crashed begins again from its first result, once.

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
    """End this process when its parent ends, also when that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Process(Generic[Job, Result]):
    """A process, and this end of the pipe to it. Its first message says that it is ready for a job."""

    def __init__(
        self, work: Callable[[Job], Iterable[Result]], job: Job, isolation: Isolation, is_second_try: bool = False
    ) -> None:
        self.job = job
        self.is_second_try = is_second_try
        self.deadline = math.inf  # until it is ready, which takes as long as the system does
        self._is_ready = False
        context = isolation.context()
        self.pipe, child_pipe = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(child_pipe, work, isolation.memory), daemon=True
        )
        self._process.start()
        child_pipe.close()

    def submit(self) -> None:
        """Have it begin its job."""
        with contextlib.suppress(OSError):  # it crashed in the meantime, which shows when it is waited for
            self.pipe.send(self.job)

    def receive(self) -> tuple[int, Any]:
        """The next message: its kind and value.

        Raises:
            CrashError: If the process crashed.
            RuntimeError: If it ended before it was ready for a job.
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
        self._process.kill()  # it holds nothing that has to be put in order
        self._process.join()


def _results_of_call(function: Callable[..., T], args: tuple[Any, ...]) -> Iterator[T]:
    yield function(*args)


def _serve(pipe: Connection, work: Callable[[Any], Iterable[Any]], memory: int | None) -> None:
    """Work on the jobs that come through the pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The limit counts from what the process has: while a new thread sets up its heap, that is more than it keeps.
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
    """The error as it can be sent, with the traceback of this process as its note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # it holds what can't be sent, or can't be made again from its message
        return RuntimeError(f"{type(error).__name__}: {error}")


def _limit_memory(most: int) -> None:
    """Refuse this process more than so many bytes in addition to what it has, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + most
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
