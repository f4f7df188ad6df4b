"""Jobs for worker processes, in a module with few imports, because each worker imports it again."""

import os


def square(number: int) -> int:
    """Return the square of a number. 5 ends the process, like a crash in a decoder."""
    if number == 5:
        os._exit(1)
    return number * number
