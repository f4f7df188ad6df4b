"""Conversion of the database's errors to one-line messages that name the index."""

import contextlib
import re
import textwrap
from collections.abc import Iterator

from ..errors import one_line

_DATABASE_ERRORS = (RuntimeError, OSError, ValueError)  # raised by LanceDB for any failure below it
_PANIC = "RustPanic"  # raised by LanceDB if damaged data make its own code fail; the class can't be imported
# LanceDB's messages about a file that is missing, truncated or changed.
_DAMAGE = re.compile(
    r"not found: \S*\.(?:lance|manifest|idx)\b|failed to fill whole buffer|file size is too small|invalid range|"
    r"corrupt|failed to decode|decode Protobuf|magic number|rust future panicked",
    re.IGNORECASE,
)
_MAX_REASON = 200  # characters


class StoreError(OSError):
    """The index can't be written, for example for lack of space. Its content is intact."""


class DamageError(OSError):
    """Files of the index are missing or damaged."""


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Convert errors of the database to `StoreError`, or to `DamageError` if its files are damaged."""
    try:
        yield
    except Exception as error:
        _raise_damage(path, error)
        if isinstance(error, _DATABASE_ERRORS):
            raise StoreError(f"{path}: the index can't be written: {_reason(error)}") from error
        raise


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Convert errors of the database to `OSError`, or to `DamageError` if its files are damaged."""
    try:
        yield
    except Exception as error:
        _raise_damage(path, error)
        if isinstance(error, _DATABASE_ERRORS):
            raise OSError(f"{path}: the index can't be read: {_reason(error)}") from error
        raise


def _raise_damage(path: str, error: Exception) -> None:
    if isinstance(error, DamageError):
        raise error
    if type(error).__name__ == _PANIC or (isinstance(error, _DATABASE_ERRORS) and _DAMAGE.search(str(error))):
        raise DamageError(
            f"{path}: files of the index are missing or damaged; `ts2net index --repair --out {path}` says which "
            "videos are lost and repairs it"
        ) from error


def _reason(error: Exception) -> str:
    """Extract the cause from a message that lists every layer of a library."""
    cause = re.search(
        r"No space left on device|File too large|Permission denied|Read-only file system|Connection refused|"
        r"dns error|operation timed out|NoSuchBucket|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|"
        r"(?:401 Unauthorized|403 Forbidden)",
        str(error),
    )
    # A message of the Rust library is a page long, in one line. Its beginning is the most useful part.
    return cause[0] if cause else textwrap.shorten(one_line(error), _MAX_REASON, placeholder=" ...")
