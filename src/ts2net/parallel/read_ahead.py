"""Read items ahead of their consumer, in a thread."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1  # interval at which the thread checks whether to stop while the queue is full
_IDLE_SECONDS = 1.0  # interval between calls of `on_idle`


class _End:
    """Marks the end of the items."""


class _Error:
    """Marks the end of the items if the thread has failed."""

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
    """Read items in a thread, up to `capacity` items ahead of the consumer.

    The thread starts when the first item is requested. Closing the generator ends the thread, which closes `items`.

    Args:
        items: The items. A generator is run and closed by the thread only.
        capacity: Maximum number of items that are read ahead, at least 1.
        interrupt: Called when reading should stop, to unblock `items` if it is waiting.
        on_idle: Called about once a second while no item is available, with the seconds since the item was requested.
            Its exceptions are raised here.
        join_seconds: Maximum number of seconds to wait for the thread to end; `None` waits without limit.

    Yields:
        The items. An exception of the thread is raised in place of the next item.
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
