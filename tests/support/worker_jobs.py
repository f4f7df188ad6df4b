"""Jobs for worker processes, in a module that imports nothing: each worker reads it anew."""

import os


def square(number: int) -> int:
    """The square of a number; 5 ends the process, as a crash in a decoder would."""
    if number == 5:
        os._exit(1)
    return number * number
