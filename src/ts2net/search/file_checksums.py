"""Checksums of the files of an index in a folder, stored in a file beside the tables.

The database never changes a file after writing it, so a file that differs is damaged, whether it contains windows,
spoken words or an index of the database. Checksums are recorded at the end of a write. If a write was killed, the next
write records the checksums of its files, which count as unchecked until then.
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
    """Result of comparing the files of an index with their checksums.

    Args:
        changed: Files that differ, relative to the index, sorted. A damaged file of checksums comes last.
        unchecked: Number of files without a checksum.
    """

    changed: tuple[str, ...] = ()
    unchecked: int = 0


def note_files(folder: Path | None) -> None:
    """Record the checksums of files that have none, and remove the checksums of deleted files.

    Args:
        folder: Folder of the index, `None` on object storage. Only the writer of the index may call this.

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
    """Delete all checksums, so that [`note_files`] records the files in their present state."""
    if folder is not None:
        (folder / _FILE).unlink(missing_ok=True)


def check_files(folder: Path | None) -> FileCheck:
    """Compare the files of an index with their checksums. If the checksums are damaged, all files are unchecked.

    Args:
        folder: Folder of the index. `None`, on object storage, counts as an index without files.

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
    """Return the files of the tables."""
    files = (file for file in folder.glob("*.lance/**/*") if file.is_file() and file.name != _HINT)
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _read(folder: Path) -> dict[str, int]:
    """Return the recorded checksums by name. If they are missing or damaged, returns none."""
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
