"""Atomic writing of files, and portable file names.

A file is written under another name in the same folder, flushed to the disk and renamed. A reader never sees a partial
file, and a failure leaves the previous file. Errors name the file itself, even if the disk is full.
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
    """Replace a file at the end of a `with` block, or leave it unchanged if the block fails.

    Args:
        path: The file.
        locked: Whether no other process can write this file now, for instance because the caller holds a lock. The
            partial file then has the fixed name `.NAME.part`, and overwrites the partial file of a killed run.

    Yields:
        The partial file, which the block has to write.

    Raises:
        OSError: If the file can't be written. The error names `path`, not the partial file.
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

    Libraries may name another file, such as the source of a copy, or no file, or put the system's error number into
    the text of an error of their own.

    Args:
        path: The file or folder that is written.

    Raises:
        OSError: Replaces such an error, and names `path`.
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
        locked: See [`whole_file`].

    Raises:
        OSError: If the file can't be written. The error names `path`.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole_file(path, locked=locked) as partial:
        partial.write_bytes(data)


def check_writable(path: str | os.PathLike[str], content: str = "a file") -> None:
    """Check that a file can be written, before any work is done for it.

    Args:
        path: The file, which may exist.
        content: Description of the expected file for the message, such as "a PNG file".

    Raises:
        OSError: If `path` is a folder, a device or a pipe, or if its folder doesn't exist or is read-only.
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
    """Flush a file to the disk, so that a power failure after the rename can't leave an empty file."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_name(name: str, longest: int = 120) -> tuple[str, str]:
    """Convert any name to a similar file name that every file system and shell accepts.

    Args:
        name: The name, without folders. It may contain any characters.
        longest: Maximum length of the stem in bytes.

    Returns:
        The stem, and the extension with its dot or an empty string. The stem consists of letters and digits of any
        script, spaces, dots, dashes, underscores and round brackets. It is never empty, and never starts with a dot or
        a dash.
    """
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    stem = " ".join(re.sub(r"[^\w .()-]+", "-", stem).split())
    stem = stem.encode("utf-8", "ignore")[:longest].decode("utf-8", "ignore").strip(" .-_")
    return stem or "video", suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,9}", suffix) else ""
