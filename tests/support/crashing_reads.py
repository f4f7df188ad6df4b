"""A read of an index that crashes its process, in a module with few imports."""

import os
from collections.abc import Iterator
from typing import Any

from ts2net.search.repairing import read_part

_THIRD_WINDOW_OF_SECOND_VIDEO = (1 << 32) + 2


def crash_at_one_row(job: Any) -> Iterator[Any]:
    """Read some rows, but end the process if they include a certain row."""
    if _THIRD_WINDOW_OF_SECOND_VIDEO in job[2]:
        os._exit(1)
    return read_part(job)
