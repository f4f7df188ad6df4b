"""Reliable handling of Ctrl-C while libraries run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ctrl_c_noticed() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in place of any error that follows Ctrl-C in this block.

    A library that is interrupted, especially during its import, may swallow the `KeyboardInterrupt` and fail later
    with another error. numpy, for example, raises a `RecursionError`.
    """
    if threading.current_thread() is not threading.main_thread():  # signals only arrive in the main thread
        yield
        return
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
