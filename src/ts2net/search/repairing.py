"""Check of an index for damage, and its repair by removing what is damaged.

- A video is intact if all windows that were recorded when it was added can be read and match their checksums. All
  other videos are lost, even if some of their windows can be read, and have to be indexed again.
- Data without checksums of their own, such as spoken words and metadata, are checked by the checksums of the files. A
  file's checksum doesn't show which videos are lost, so windows have checksums too.
- The database doesn't validate its files: a changed byte may make it crash or allocate all memory. So windows are read
  in a separate process, and in smaller parts after a crash.
"""

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from ..parallel.isolated import CrashError, Isolation, TimeLimitError
from .columns import CHECKSUM, id_from_text, metadata_rows, row_checksums, video_key
from .file_checksums import FileCheck
from .names import NotedVideo
from .snapshot import Snapshot
from .store import Store
from .store_errors import DamageError
from .windows_table import WINDOWS

_ROWS_A_PART = 1024
_SPLIT = 16  # number of parts into which a part that could not be read is split
_FRAGMENT_BITS = 32  # the bits of a row id above these are the number of its file
_ISOLATION = Isolation(memory=8 * 2**30)
_PATIENCE = 120.0  # seconds for a part


@dataclass(frozen=True)
class Damage:
    """Damage of an index.

    Args:
        lost: Metadata of the videos that are not intact, by video id.
        unnamed: Number of damaged windows of videos whose names are lost too.
        unreadable: Number of windows that can't be read.
        changed: Number of windows that differ from what was written.
        unchecked: Number of windows without a checksum, because an older version indexed them.
        num_windows: Number of all windows.
        tables: Names of tables that were reset to an earlier version or removed.
        files: Files that differ from what was written, relative to the index.
        unchecked_files: Number of files without a checksum.
    """

    lost: Mapping[str, Mapping[str, str]]
    unnamed: int
    unreadable: int
    changed: int
    unchecked: int
    num_windows: int
    tables: Sequence[str] = ()
    files: Sequence[str] = ()
    unchecked_files: int = 0

    def __bool__(self) -> bool:
        """Whether there is any damage."""
        return bool(self.lost or self.unnamed or self.unreadable or self.changed or self.tables or self.files)


def check_index(path: str | os.PathLike[str]) -> Damage:
    """Read all of an index to find damaged videos. Nothing is changed.

    A script has to call this under `if __name__ == "__main__":`, because it starts a process.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the format of the index is not supported.
        DamageError: If the index can't be opened.
    """
    store = Store.open(path)
    files = store.check_files()
    return _Windows(store, files).damage(files)


def repair_index(path: str | os.PathLike[str]) -> Damage:
    """Remove damaged data from an index, so that the rest can be used and the lost videos can be indexed again.

    The database's own indexes are removed too; the next write creates them again.

    Returns:
        The damage that was found.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the format of the index is not supported.
        BlockingIOError: If another process is writing to the index.
        DamageError: If no version of the table of windows can be opened.
        StoreError: If the index can't be written.
    """
    with Store.repair(path) as (store, mended, files):
        windows = _Windows(store, files)
        damage = windows.damage(files, mended)
        if windows.num_damaged or _are_windows_changed(files):
            store.rebuild(windows.whole_rows())
        else:
            store.drop_indexes()
            store.drop(damage.lost)
        store.forget(windows.to_forget())
    return damage


@dataclass
class _Part:
    """Result of checking some rows.

    Args:
        sound: Row, key, number and checksum of the metadata of each intact window.
        changed: Key of each window that differs from what was written.
        unreadable: Number of windows that can't be read.
        unchecked: Number of windows without a checksum.
    """

    sound: list[tuple[int, str, int, int]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unreadable: int = 0
    unchecked: int = 0


class _Windows:
    """The windows of an index, read and compared with their checksums.

    Args:
        store: The index.
        files: Result of comparing the files of the index with their checksums.
    """

    def __init__(self, store: Store, files: FileCheck) -> None:
        self._store = store
        noted = store.noted()
        self._misnoted = [key for key, video in noted.items() if key != video_key(id_from_text(video.video))]
        self._noted: Mapping[str, NotedVideo] = {key: noted[key] for key in noted.keys() - set(self._misnoted)}
        self._sound: defaultdict[str, dict[int, int]] = defaultdict(dict)  # by key, then by number of the window
        self._changed: list[str] = []
        self._unreadable = self._unchecked = 0
        snapshot = store.snapshot()
        rows = snapshot.row_ids()
        self._num_windows = len(rows)
        # Metadata may differ from the recorded ones in intact files too, if a process was killed. That is no damage.
        compared = self._noted if _are_windows_changed(files) else {}
        metadata = {key: _metadata_checksum(video.metadata) for key, video in compared.items()}
        for part in _read_all(snapshot, rows):
            for row, key, number, of_metadata in part.sound:
                if metadata.get(key, of_metadata) == of_metadata:
                    self._sound[key][number] = row
                else:
                    self._changed.append(key)
            self._changed += part.changed
            self._unreadable += part.unreadable
            self._unchecked += part.unchecked

    @property
    def num_damaged(self) -> int:
        """Number of windows that can't be read or differ from what was written."""
        return self._unreadable + len(self._changed)

    def to_forget(self) -> list[str]:
        """Return the keys to remove from the recorded videos."""
        return [*self._lost(), *self._misnoted]

    def whole_rows(self) -> list[int]:
        """Return the rows of intact videos. A video without a record is intact if its numbers have no gap."""
        lost = set(self._lost())
        whole = (rows for key, rows in self._sound.items() if key not in lost and max(rows) == len(rows) - 1)
        return [row for rows in whole for row in rows.values()]

    def damage(self, files: FileCheck, tables: Sequence[str] = ()) -> Damage:
        """Return the damage that was found."""
        lost = {self._store.present_id(self._noted[key]): self._noted[key].metadata for key in self._lost()}
        return Damage(
            lost=dict(sorted(lost.items())),
            unnamed=sum(key not in self._noted for key in self._changed),
            unreadable=self._unreadable,
            changed=len(self._changed),
            unchecked=self._unchecked,
            num_windows=self._num_windows,
            tables=tables,
            files=files.changed,
            unchecked_files=files.unchecked,
        )

    def _lost(self) -> list[str]:
        """Return the keys of recorded videos that are not intact."""
        return [key for key, video in self._noted.items() if len(self._sound.get(key, ())) != video.windows]


def _are_windows_changed(files: FileCheck) -> bool:
    """Whether a file of the table of windows has changed, even if it contains no window."""
    return any(file.startswith(f"{WINDOWS}.lance/") for file in files.changed)


def _metadata_checksum(metadata: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(sorted(metadata.items())).encode())


_Job = tuple[str, int, tuple[int, ...]]  # the index, its version and rows of one file


def _read_all(snapshot: Snapshot, rows: Iterable[int]) -> Iterator[_Part]:
    """Read rows in a separate process. Parts that make it crash are split and read again."""
    version, _ = snapshot.version
    jobs: list[_Job] = [(snapshot.path, version, part) for part in _parts(rows)]
    while jobs:
        smaller: list[_Job] = []
        results = _ISOLATION.run_each(jobs, read_part, workers=1, patience=lambda _: _PATIENCE)
        with closing(results):
            for (_, _, some), result in results:
                if isinstance(result, _Part):
                    yield result
                elif not isinstance(result.error, CrashError | TimeLimitError | MemoryError):
                    raise result.error
                elif len(some) == 1:
                    yield _Part(unreadable=1)
                else:
                    size = -(-len(some) // _SPLIT)
                    smaller += [
                        (snapshot.path, version, some[first : first + size]) for first in range(0, len(some), size)
                    ]
        jobs = smaller


def _parts(rows: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Split rows into parts, each of one file."""
    by_file: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_file[row >> _FRAGMENT_BITS].append(row)
    for of_file in by_file.values():
        for first in range(0, len(of_file), _ROWS_A_PART):
            yield tuple(sorted(of_file[first : first + _ROWS_A_PART]))


@lru_cache(maxsize=1)
def _snapshot(path: str, version: int) -> Snapshot:
    return Store.open(path).snapshot(version)


def read_part(job: _Job) -> Iterator[_Part]:
    """Read and check some rows. This runs in a separate process.

    Args:
        job: The index, the version of its table of windows, and the rows.

    Yields:
        One result for all rows.
    """
    path, version, rows = job
    part = _Part()
    _read(_snapshot(path, version), rows, part)
    yield part


def _read(snapshot: Snapshot, rows: Sequence[int], part: _Part) -> None:
    """Read and check some rows. A part that can't be read is halved."""
    try:
        table = snapshot.whole_rows(rows).combine_chunks()
        if table.num_rows != len(rows):
            raise DamageError(f"{snapshot.path}: rows are missing")
        result = _compare(table)
    except MemoryError:
        raise
    except Exception:  # damaged data may raise any error
        if len(rows) == 1 or not _can_read_one(snapshot, rows):
            part.unreadable += len(rows)
            return
        half = len(rows) // 2
        _read(snapshot, rows[:half], part)
        _read(snapshot, rows[half:], part)
        return
    part.sound += result.sound
    part.changed += result.changed
    part.unchecked += result.unchecked


def _compare(table: pa.Table) -> _Part:
    """Compare windows with their checksums, and their names with the names of the videos."""
    part = _Part()
    names = [table[name].to_pylist() for name in ("_rowid", "window", "key", "video", "number")]
    actual = [checksum for batch in table.to_batches() for checksum in row_checksums(batch).to_pylist()]
    has_checksums = CHECKSUM in table.column_names
    part.unchecked = 0 if has_checksums else table.num_rows
    expected = table[CHECKSUM].to_pylist() if has_checksums else actual
    metadata = map(_metadata_checksum, metadata_rows(table))
    for row, window, key, video, number, checksum, expected_checksum, of_metadata in zip(
        *names, actual, expected, metadata, strict=True
    ):
        if checksum == expected_checksum and window == f"{key}-{number:06d}" and key == video_key(id_from_text(video)):
            part.sound.append((row, key, number, of_metadata))
        else:
            part.changed.append(key)
    return part


def _can_read_one(snapshot: Snapshot, rows: Sequence[int]) -> bool:
    """Whether the first or the last of some rows can be read. If neither can, their file is missing or truncated."""
    for row in (rows[0], rows[-1]):
        try:
            snapshot.whole_rows([row])
        except OSError:
            continue
        return True
    return False
