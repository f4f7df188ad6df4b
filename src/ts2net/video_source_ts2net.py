"""Access to the bytes of a video from a path, an address, memory, or an open file.

Every source becomes one seekable file without a name that FFmpeg could interpret. FFmpeg never gets an address, so
only this module opens files and connections.
"""

import io
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

VideoSource = str | os.PathLike[str] | bytes | BinaryIO

MAX_STREAM_BYTES = 4 * 2**30  # the limit for an address or a file that can't seek
_IN_MEMORY_BYTES = 64 * 2**20  # a larger stream is written to a temporary file


class VideoDecodingError(ValueError):
    """A video that can't be decoded. The message names the source, what was found and what was expected."""


class SharedFile:
    """A seekable binary file that several readers use at once, each with its own position."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self._lock = threading.Lock()
        self.size = file.seek(0, os.SEEK_END)

    def read_at(self, position: int, size: int) -> bytes:
        """Read at most `size` bytes from a position. Safe to call from several threads."""
        if position >= self.size:  # a damaged file may contain positions beyond what a file system can seek to
            return b""
        with self._lock:
            self._file.seek(position)
            return self._file.read(size)


class FileView(io.RawIOBase):
    """One reader's view of a shared file. It has no name, so the name of a file never affects how it is read."""

    def __init__(self, shared: SharedFile) -> None:
        self._shared = shared
        self._position = 0

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Always True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes from the current position, all if `size` is negative."""
        data = self._shared.read_at(self._position, self._shared.size if size < 0 else size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, which may lie past the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._shared.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the current position."""
        return self._position


@contextmanager
def open_source(source: VideoSource) -> Iterator[SharedFile]:
    """Open any source as a seekable file with a name for messages."""
    with ExitStack() as stack:
        file: IO[bytes]
        if isinstance(source, (bytes, bytearray, memoryview)):
            file, name = io.BytesIO(source), "<bytes>"
        elif isinstance(source, (str, os.PathLike)):
            name = os.fspath(source)
            scheme = _scheme(name)
            if scheme in ("http", "https"):
                file, name = (
                    stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)),
                    _without_secrets(name),
                )
                _download(os.fspath(source), name, file)
            elif scheme == "hf":
                from huggingface_hub import HfFileSystem

                file = stack.enter_context(HfFileSystem().open(f"hf{name[2:]}", "rb"))
            else:
                if scheme == "file":
                    name = _local_path(name)
                file = stack.enter_context(open(name, "rb", buffering=0))
        elif hasattr(source, "read"):
            name = str(getattr(source, "name", f"<{type(source).__name__}>"))
            if not isinstance(source.read(0), bytes):
                raise TypeError(f"{name}: expected a file opened in binary mode ('rb'), got one in text mode")
            if source.seekable():
                file = source
                stack.callback(source.seek, source.tell())
            else:
                file = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))
                _spool(iter(lambda: source.read(2**20), b""), name, file)
        else:
            raise TypeError(f"a video is a path, an address, bytes or a binary file, got {type(source).__name__}")
        shared = SharedFile(file, name)
        if shared.size == 0:
            raise VideoDecodingError(f"{name}: empty (0 bytes), expected a video")
        yield shared


def _scheme(source: str | bytes) -> str | None:
    """Return the scheme of an address in lower case, `None` for a path."""
    scheme, separator, _ = os.fsdecode(source).partition("://")
    return scheme.lower() if separator and scheme.isalpha() else None


def _local_path(address: str) -> str:
    """Return the path of a `file://` address.

    Raises:
        ValueError: If the address names another machine.
    """
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{address}: a file:// address names a file of this machine, as file:///path, got a host")
    return url2pathname(parts.path)


def _spool(chunks: Iterable[bytes], name: str, file: IO[bytes]) -> None:
    """Write a stream to a file, up to a limit, because a remote stream may never end."""
    for chunk in chunks:
        file.write(chunk)
        if file.tell() > MAX_STREAM_BYTES:
            raise VideoDecodingError(f"{name}: larger than {MAX_STREAM_BYTES} bytes, the most taken from a stream")


def _without_secrets(url: str) -> str:
    """Return an address without user, password and query, which may contain a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _download(url: str, name: str, file: IO[bytes]) -> None:
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import get_session

    try:
        with get_session().stream("GET", url, follow_redirects=True, timeout=HF_HUB_DOWNLOAD_TIMEOUT) as response:
            if response.status_code != 200:
                raise VideoDecodingError(f"{name}: the server answered {response.status_code}, expected 200")
            _spool(response.iter_bytes(), name, file)
    except OfflineModeIsEnabled:
        raise VideoDecodingError(f"{name}: can't be downloaded in offline mode") from None
    except (VideoDecodingError, OSError):
        raise
    except Exception as error:  # users may replace the HTTP client, so its errors have no common type
        raise VideoDecodingError(f"{name}: download failed ({type(error).__name__})") from error
