"""The checksum of each file of an index that is a folder, in one more file beside the tables.

Notable here: the database gives a file its content once, so a file that differs is damaged, wherever the bit is: in
windows, in spoken words, in an index of the database. Files are noted at the end of a write. Those of a write that was
killed are noted by the next one, and count as unchecked until then.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..files import write_whole

_FILE = "checksums.json"
_BLOCK = 2**20  # bytes read at a time
_HINT = "latest_version_hint.json"  # changes with every commit, and nothing depends on it


@dataclass(frozen=True)
class FileCheck:
    """The files of an index, compared with their checksums.

    Args:
        changed: Those that differ, relative to the index, sorted.
        unchecked: How many have no checksum.
    """

    changed: tuple[str, ...] = ()
    unchecked: int = 0


def note_files(folder: Path | None) -> None:
    """Note the checksums of files that have none, and forget files that are gone.

    Args:
        folder: Of the index, `None` if it has none. Its only writer calls this.

    Raises:
        OSError: If a file can't be read, or the checksums can't be written.
    """
    if folder is None:
        return
    noted = _read(folder)
    sums = {name: noted[name] if name in noted else _checksum(folder / name) for name in _names(folder)}
    if sums != noted:
        text = json.dumps(sums, indent=0)
        write_whole(folder / _FILE, f"{zlib.crc32(text.encode())}\n{text}", locked=True)


def forget_files(folder: Path | None) -> None:
    """Forget all checksums, so that [`note_files`] takes the files as they are."""
    if folder is not None:
        (folder / _FILE).unlink(missing_ok=True)


def check_files(folder: Path | None) -> FileCheck:
    """Compare the files of an index with their checksums. If these are damaged themselves, all files are unchecked.

    Args:
        folder: Of the index. `None`, if it has none, is an index without files.

    Raises:
        OSError: If a file can't be read.
    """
    if folder is None:
        return FileCheck()
    noted, names = _read(folder), _names(folder)
    changed = [name for name in names if name in noted and _checksum(folder / name) != noted[name]]
    if not noted and (folder / _FILE).exists():
        changed.append(_FILE)
    return FileCheck(tuple(changed), len(set(names) - noted.keys()))


def _names(folder: Path) -> list[str]:
    """The files of the tables."""
    files = (file for file in folder.glob("*.lance/**/*") if file.is_file() and file.name != _HINT)
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _read(folder: Path) -> dict[str, int]:
    """The noted checksums by name; none if they are damaged."""
    try:
        total, text = (folder / _FILE).read_bytes().split(b"\n", 1)
        sums: dict[str, int] = json.loads(text) if int(total) == zlib.crc32(text) else {}
    except (FileNotFoundError, ValueError):
        return {}
    return sums


def _checksum(file: Path) -> int:
    total = 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            total = zlib.crc32(block, total)
    return total
