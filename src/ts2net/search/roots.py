"""Where the folders of indexed videos are now. An index names videos by where they were when it was made.

Notable here: names in the index stay as they are when a folder is renamed or the index is carried to another computer,
so nothing is rewritten and the windows keep their names. What is read is told by its present path.
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
    """Folders that are elsewhere now.

    Args:
        moves: Pairs of a folder in the names of the index, and where it is now, without a slash at the end.
    """

    moves: tuple[tuple[str, str], ...] = ()

    def to_present(self, name: str) -> str:
        """The id of a video by its name in the index."""
        if name.startswith("//"):  # see to_name
            return name[1:]
        return _replaced(name, self.moves) or name

    def to_name(self, video_id: str) -> str:
        """The name in the index of a video by its id.

        A file that has since come to where a folder was gets a second slash, for its own path names another video.
        """
        name = _replaced(video_id, tuple((now, then) for then, now in self.moves)) or video_id
        return name if self.to_present(name) == video_id else f"/{video_id}"

    def with_move(self, old: str, new: str) -> "Roots":
        """The folders after one of them, by its present path, has moved."""
        old, new = os.path.abspath(old), os.path.abspath(new)
        moves = dict(self.moves)
        moves[os.path.dirname(self.to_name(os.path.join(old, "file")))] = new
        return Roots(tuple((then, now) for then, now in moves.items() if then != now))


class RootsTable:
    """The table of moved folders. Its methods raise what LanceDB raises.

    Args:
        database: The LanceDB database.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self) -> Roots:
        """All moved folders."""
        table = open_table(self._database, ROOTS)
        rows = [] if table is None else table.to_arrow().to_pylist()
        return Roots(tuple((id_from_text(row["then"]), id_from_text(row["now"])) for row in rows))

    def replace(self, roots: Roots) -> None:
        """Replace all moved folders."""
        columns = {name: [id_to_text(pair[side]) for pair in roots.moves] for side, name in enumerate(("then", "now"))}
        replace_table(self._database, ROOTS, pa.table(columns, schema=_SCHEMA))


def _replaced(path: str, moves: tuple[tuple[str, str], ...]) -> str | None:
    """A path with its innermost folder that is among the first of these pairs replaced by the second."""
    fitting = [(one, other) for one, other in moves if path.startswith(one.rstrip("/\\") + os.sep)]
    if not fitting:
        return None
    one, other = max(fitting, key=lambda pair: len(pair[0]))
    return other.rstrip("/\\") + path[len(one.rstrip("/\\")) :]
