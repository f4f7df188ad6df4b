"""Errors of the database below an index, as one line that names the index."""

import contextlib
import re
import textwrap
from collections.abc import Iterator

from ..errors import one_line

_DATABASE_ERRORS = (RuntimeError, OSError, ValueError)  # what LanceDB raises for whatever fails below it
_MAX_REASON = 200  # characters


class StoreError(OSError):
    """The index can't be written, for lack of space for instance. What it holds is whole."""


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Raise `StoreError` for what fails in the database."""
    try:
        yield
    except _DATABASE_ERRORS as error:
        raise StoreError(f"{path}: the index can't be written: {_reason(error)}") from error


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Raise `OSError` for what fails in the database."""
    try:
        yield
    except _DATABASE_ERRORS as error:
        raise OSError(f"{path}: the index can't be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The cause, out of a message that lists every layer of a library."""
    known = re.search(
        r"No space left on device|File too large|Permission denied|Read-only file system|Connection refused|"
        r"dns error|operation timed out|NoSuchBucket|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|"
        r"(?:401 Unauthorized|403 Forbidden)",
        str(error),
    )
    # A message of the Rust library is a page in one line, and its beginning tells most.
    return known[0] if known else textwrap.shorten(one_line(error), _MAX_REASON, placeholder=" ...")
