"""Present locations of the folders of indexed videos. An index names videos by their paths when they were indexed.

When a folder is renamed or the index is copied to another computer, the names in the index don't change, so nothing is
rewritten and the windows keep their names. Readers convert names to present paths.
"""

import os
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .columns import id_from_text, id_to_text
from .database import open_table, replace_table

ROOTS = "roots"
_SCHEMA = pa.schema([pa.field("then", pa.string()), pa.field("now", pa.string())])


@dataclass(frozen=True)
class Roots:
    """Folders that have moved.

    Args:
        moves: Pairs of a folder in the names of the index and its present path, both without a trailing slash.
    """

    moves: tuple[tuple[str, str], ...] = ()

    def to_present(self, name: str) -> str:
        """Return the id of a video, which is its present path, given its name in the index."""
        if name.startswith("//"):  # see to_name
            return name[1:]
        return _replaced(name, self.moves) or name

    def to_name(self, video_id: str) -> str:
        """Return the name of a video in the index, given its id.

        A new file at the former path of a moved folder gets a second slash, because its path names another video.
        """
        name = _replaced(video_id, tuple((now, then) for then, now in self.moves)) or video_id
        return name if self.to_present(name) == video_id else f"/{video_id}"

    def with_move(self, old: str, new: str) -> "Roots":
        """Return the folders after a further move. Both arguments are present paths."""
        old, new = os.path.abspath(old), os.path.abspath(new)
        moves = dict(self.moves)
        moves[os.path.dirname(self.to_name(os.path.join(old, "file")))] = new
        return Roots(tuple((then, now) for then, now in moves.items() if then != now))


class RootsTable:
    """The table of moved folders. Its methods raise LanceDB's own errors.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> Roots:
        """Return all moved folders."""
        table = open_table(self._database, ROOTS)
        rows = [] if table is None else table.to_arrow().to_pylist()
        return Roots(tuple((id_from_text(row["then"]), id_from_text(row["now"])) for row in rows))

    def replace(self, roots: Roots) -> None:
        """Replace all moved folders."""
        columns = {name: [id_to_text(pair[side]) for pair in roots.moves] for side, name in enumerate(("then", "now"))}
        replace_table(self._database, ROOTS, pa.table(columns, schema=_SCHEMA))


def _replaced(path: str, moves: tuple[tuple[str, str], ...]) -> str | None:
    """Replace the innermost folder of a path that is the first of a pair by the second; `None` if there is none."""
    fitting = [(one, other) for one, other in moves if path.startswith(one.rstrip("/\\") + os.sep)]
    if not fitting:
        return None
    one, other = max(fitting, key=lambda pair: len(pair[0]))
    return other.rstrip("/\\") + path[len(one.rstrip("/\\")) :]
