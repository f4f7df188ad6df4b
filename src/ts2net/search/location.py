"""Location of an index, and the lock that admits a single writer."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from huggingface_hub.utils import WeakFileLock

from ..lazy import name_missing_extra
from .store_errors import writing

with name_missing_extra():
    import lancedb

_LOCK = ".lock"


def index_folder(path: str) -> Path | None:
    """Return the folder of an index, or `None` if the index is on object storage."""
    if path.startswith("file://"):
        return Path(url2pathname(urlsplit(path).path))
    return None if "://" in path else Path(path)


def has_folder(path: str) -> bool:
    """Whether the folder of an index exists. Connecting would create it. Always true for object storage.

    Raises:
        NotADirectoryError: If the path is a file.
    """
    folder = index_folder(path)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{path} is a file; expected the folder of an index")
    return folder is None or folder.is_dir()


def connect(path: str) -> Any:
    """Connect to the LanceDB database of an index. Creates its folder if there is none."""
    return lancedb.connect(index_folder(path) or path)


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Lock an index against other writers. The index may not exist yet. Object storage has no lock.

    Raises:
        BlockingIOError: If another process is writing.
        StoreError: If the folder can't be created.
    """
    folder = index_folder(path)
    if folder is None:
        yield
        return
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(folder / _LOCK, timeout=1))
        except TimeoutError:
            raise BlockingIOError(f"{folder}: another process is writing to this index") from None
        yield


def check_no_writer(path: str) -> None:
    """Check that no process is writing to an index, before any work starts.

    Raises:
        BlockingIOError: If another process is writing.
    """
    folder = index_folder(path)
    if folder is not None and (folder / _LOCK).exists():
        with only_writer(path):
            pass
