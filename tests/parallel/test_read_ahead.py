"""Reading ahead in a thread: the same items, and a clean end at any point."""

import itertools
import threading
import time
from collections.abc import Generator, Iterator

import pytest

from ts2net.parallel.read_ahead import read_ahead


class Source:
    """Counter that records the number of items read, the reading threads, and whether it was closed."""

    def __init__(self) -> None:
        self.num_read = 0
        self.is_closed = False
        self.threads: set[threading.Thread] = set()

    def items(self, error_after: int | None = None) -> Generator[int, None, None]:
        try:
            for number in itertools.count():
                self.threads.add(threading.current_thread())
                if number == error_after:
                    raise LookupError("no such item")
                self.num_read += 1
                yield number
        finally:
            self.is_closed = True


def wait_until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not become true within 4 s")


def test_reads_in_another_thread_and_no_further_than_it_may() -> None:
    source = Source()
    stream = read_ahead(source.items(), 3)
    assert source.num_read == 0, "nothing is read before the first item is asked for"
    assert [next(stream), next(stream)] == [0, 1]
    wait_until(lambda: source.num_read == 6)  # two taken, three in the queue, one that waits for room
    time.sleep(0.3)
    assert source.num_read == 6
    stream.close()
    assert source.is_closed
    assert threading.current_thread() not in source.threads
    assert not any(thread.is_alive() for thread in source.threads)


def test_ends_with_the_last_item() -> None:
    assert list(read_ahead(range(5), 2)) == [0, 1, 2, 3, 4]


def test_an_error_comes_where_its_item_would_have_come() -> None:
    source = Source()
    stream = read_ahead(source.items(error_after=2), 8)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(LookupError, match="no such item"):
        next(stream)
    assert source.is_closed


def test_what_waits_is_interrupted_and_what_does_not_hear_is_left() -> None:
    stop = threading.Event()

    def waiting() -> Iterator[int]:
        yield 0
        stop.wait()

    stream = read_ahead(waiting(), 1, interrupt=stop.set)
    assert next(stream) == 0
    stream.close()
    assert stop.is_set()

    release = threading.Event()

    def deaf() -> Iterator[int]:
        yield 0
        release.wait()

    stream = read_ahead(deaf(), 1, join_seconds=0.1)
    assert next(stream) == 0
    begun = time.monotonic()
    stream.close()
    assert time.monotonic() - begun < 5
    release.set()


@pytest.mark.slow
def test_whoever_waits_is_told_how_long_and_may_give_up() -> None:
    release = threading.Event()

    def late() -> Iterator[int]:
        yield 0
        release.wait()

    waits: list[float] = []

    def give_up(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise TimeoutError("nothing comes")

    stream = read_ahead(late(), 1, interrupt=release.set, on_idle=give_up)
    assert next(stream) == 0
    with pytest.raises(TimeoutError, match="nothing comes"):
        next(stream)
    assert 0.9 < waits[0] < waits[1]
