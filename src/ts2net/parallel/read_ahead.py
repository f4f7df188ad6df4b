"""A thread that reads ahead of whoever takes the items."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1  # how often the thread, waiting for room, looks whether it should stop
_IDLE_SECONDS = 1.0  # how often `on_idle` is called


class _End:
    """Follows the last item."""


class _Error:
    """Follows the last item if the thread failed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def read_ahead(
    items: Iterable[T],
    capacity: int,
    *,
    interrupt: Callable[[], None] | None = None,
    on_idle: Callable[[float], None] | None = None,
    join_seconds: float | None = None,
) -> Generator[T, None, None]:
    """Read items in a thread, up to `capacity` ahead of the one that is taken.

    The thread starts with the first item taken. Close the generator to end it: the thread closes `items` and ends.

    Args:
        items: What to read. If it is a generator, only the thread runs it, and closes it.
        capacity: The most items that wait to be taken, at least 1.
        interrupt: Called when reading should stop, to let `items` end where it would wait.
        on_idle: Called about every second in which nothing comes, with the seconds since something was asked for.
            What it raises is raised here.
        join_seconds: The most seconds to wait for the thread to end; `None` waits as long as it takes.

    Yields:
        The items. What the thread raises is raised where its item would have come.
    """
    ready: queue.Queue[T | _End | _Error] = queue.Queue(capacity)
    stop = threading.Event()

    def put(item: T | _End | _Error) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def read() -> None:
        last: _End | _Error = _End()
        try:
            iterator = iter(items)
            try:
                for item in iterator:
                    put(item)
                    if stop.is_set():
                        break
            finally:
                if isinstance(iterator, Generator):
                    iterator.close()
        except BaseException as error:
            last = _Error(error)
        put(last)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := _take(ready, on_idle), _End):
            if isinstance(item, _Error):
                raise item.error
            yield item
    finally:
        stop.set()
        if interrupt is not None:
            interrupt()
        thread.join(join_seconds)


def _take(ready: "queue.Queue[T | _End | _Error]", on_idle: Callable[[float], None] | None) -> T | _End | _Error:
    begun = time.monotonic()
    while True:
        try:
            return ready.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            if on_idle is not None:
                on_idle(time.monotonic() - begun)
