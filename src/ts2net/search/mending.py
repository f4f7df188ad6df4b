"""Reset the tables of a damaged index to a state that can be opened. `repairing` then finds the lost videos."""

import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path

from .broken import BROKEN
from .database import open_table
from .location import connect, index_folder
from .names import NAMES
from .roots import ROOTS
from .spoken import SPOKEN
from .store_errors import reading
from .unrelated import UNRELATED
from .windows_table import WINDOWS

_SMALL_TABLES = (BROKEN, UNRELATED, ROOTS, NAMES, SPOKEN)
_VERSIONS = "_versions"
_DAMAGED = ".damaged"  # appended to the name of a manifest that is put aside
_LAST_VERSION = 2**64 - 1  # names of manifests count down from here


def mend_tables(path: str, changed: Collection[str]) -> list[str]:
    """Reset every table of an index to a version that can be opened, if possible an undamaged one.

    The table of windows may still contain rows that can't be read. The smaller tables are removed if they can't be
    read or have changed.

    Args:
        path: Location of the index.
        changed: Files that differ from what was written, see [`file_checksums.check_files`].

    Returns:
        The names of the tables that were removed or reset to an earlier version.

    Raises:
        DamageError: If no version of the table of windows can be opened.
    """
    database, folder = connect(path), index_folder(path)  # on object storage, manifests can't be put aside
    mended = []
    while True:
        try:
            with reading(path):
                open_table(database, WINDOWS)
        except OSError:
            if folder is None or not _put_aside_latest(folder / f"{WINDOWS}.lance" / _VERSIONS):
                raise
        else:
            if folder is None or not _latest_is_among(changed, folder, WINDOWS):
                break
            if not _put_aside_latest(folder / f"{WINDOWS}.lance" / _VERSIONS):
                break  # there is no other version
        mended.append(WINDOWS)
    for name in _SMALL_TABLES:
        try:
            with reading(path):
                table = open_table(database, name)
                if table is not None:
                    table.to_arrow()
            if folder is None or not _is_changed(changed, folder, name):
                continue
        except OSError:
            pass
        with contextlib.suppress(Exception):  # the damage may cause any error
            database.drop_table(name)
        if folder is not None:
            shutil.rmtree(folder / f"{name}.lance", ignore_errors=True)
        mended.append(name)
    return list(dict.fromkeys(mended))


def _is_changed(changed: Collection[str], folder: Path, name: str) -> bool:
    """Whether rows of a table may differ from what was written. Its indexes don't matter: they are rebuilt anyway."""
    parts = (f"{name}.lance/data/", f"{name}.lance/_deletions/")
    return any(file.startswith(parts) for file in changed) or _latest_is_among(changed, folder, name)


def _latest_is_among(changed: Collection[str], folder: Path, name: str) -> bool:
    manifests = _manifests(folder / f"{name}.lance" / _VERSIONS)
    return bool(manifests) and manifests[-1].relative_to(folder).as_posix() in changed


def _manifests(versions: Path) -> list[Path]:
    """Return the manifests of a table, the latest last."""
    return sorted((file for file in versions.glob("*.manifest") if file.stem.isdigit()), key=_version)


def _put_aside_latest(versions: Path) -> bool:
    """Rename the manifest of the latest version, if there is an earlier one. Returns whether it was renamed."""
    manifests = _manifests(versions)
    if len(manifests) < 2:
        return False
    latest = manifests[-1]
    latest.rename(latest.with_name(latest.name + _DAMAGED))
    return True


def _version(manifest: Path) -> int:
    number = int(manifest.stem)
    return _LAST_VERSION - number if len(manifest.stem) == 20 else number
