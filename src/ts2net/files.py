"""Files that are written whole or not at all, and names for them.

A file is written under another name in the same folder, flushed to the disk and renamed, so a reader never sees half
of it, and a failure leaves what was there before. Errors name the file itself, also where the disk is full.
"""

import contextlib
import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Errors that only writing can cause.
_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def whole_file(path: str | os.PathLike[str], *, locked: bool = False) -> Iterator[Path]:
    """Give a file its content at the end of a `with` block, or leave it as it was when the block fails.

    Args:
        path: The file.
        locked: No other process writes this file now, for instance because the caller holds a lock. The partial file
            then has the fixed name `.NAME.part`, and a new run overwrites the one that a killed run left behind.

    Yields:
        The partial file, which the block has to write.

    Raises:
        OSError: If it can't be written. It names `path`, not the partial file.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.part" if locked else f".{path.name}.{os.getpid()}.part")
    try:
        with write_errors_named(path):
            yield partial
            _flush(partial)
            partial.replace(path)
    except OSError as error:
        if error.filename == os.fspath(partial):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def write_errors_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a file or folder in errors of writing in this block, such as a full disk.

    Libraries name another file, such as the one that they copy, or none, or write the system's number into the text
    of an error of their own.

    Args:
        path: What is written.

    Raises:
        OSError: In place of such an error. It names `path`.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number is None and (match := re.search(r"\b(?:os error|Errno) (\d+)", str(error))):
            number = int(match[1])
        if number not in _WRITE_ERRORS:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


def write_whole(path: str | os.PathLike[str], content: str | bytes, *, locked: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file.
        content: Text is encoded as UTF-8, with its line ends as they are.
        locked: As in [`whole_file`].

    Raises:
        OSError: If it can't be written. It names `path`.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path, locked=locked) as partial:
        partial.write_bytes(data)


def check_writable(path: str | os.PathLike[str], content: str = "a file") -> None:
    """Check that a file can be written, before any work is done for it.

    Args:
        path: The file, which may exist.
        content: What is expected there, for the message, such as "a PNG file".

    Raises:
        OSError: If it is a folder or another thing that is no file, or if its folder doesn't exist or is read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected {content}")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a device or a pipe; expected {content}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {path.parent} is read-only")


def _flush(path: Path) -> None:
    """Have the content of a file on the disk, so that a power failure after the rename can't leave an empty file."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_name(name: str, longest: int = 120) -> tuple[str, str]:
    """Make a file name that every file system and shell takes, as much like another one as it can be.

    Args:
        name: The other name, without folders, whatever is in it.
        longest: Bytes of the stem.

    Returns:
        The stem, of letters and digits of any script, spaces, dots, dashes, underscores and round brackets, never
        empty and never beginning with a dot or a dash; and the extension with its dot, or nothing.
    """
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    stem = " ".join(re.sub(r"[^\w .()-]+", "-", stem).split())
    stem = stem.encode("utf-8", "ignore")[:longest].decode("utf-8", "ignore").strip(" .-_")
    return stem or "video", suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,9}", suffix) else ""
