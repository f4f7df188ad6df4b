"""Scores as tables to read.

Notable here: a matrix has its longer side in the rows, and its columns are numbered when their names are too wide for
the terminal. Marks are characters as well as colours, for a log file has no colours.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_MARK = "*"
_HEAD_WIDTH = 24  # characters that the head of a column is shortened to
_MIN_ROW_NAME_WIDTH = 20


def score_matrix(
    console: Console, texts: Sequence[str], videos: Sequence[str], scores: Sequence[Sequence[float]]
) -> RenderableType:
    """Every score at once, the best of each row marked, or of the only column.

    Args:
        console: Where it will be printed, for its width.
        texts: The texts.
        videos: Paths or addresses of the videos.
        scores: One row a text, one column a video.
    """
    rows, columns = list(texts), _file_names(videos)
    what, best = "text", "for each text, its best video"
    if len(videos) > len(texts):
        rows, columns = columns, rows
        scores = list(zip(*scores, strict=True))
        what, best = "video", "for each video, its best text"
    marked = [max(row) for row in scores]
    if len(columns) == 1:  # nothing to choose from in a row
        marked = [max(marked)] * len(rows)
        best = f"the best {what}"
    cells = [
        [f"{score:.2f}{_MARK if score == highest else ' '}" for score in row]
        for row, highest in zip(scores, marked, strict=True)
    ]

    cell_width = max(len(cell) for row in cells for cell in row) + 1
    room = console.width - min(max(map(len, rows)), _MIN_ROW_NAME_WIDTH)
    heads, legend = [_shortened(column) for column in columns], []
    alike = len(set(heads)) < len(set(columns))  # once they are shortened
    if alike or sum(max(len(head) + 1, cell_width) for head in heads) > room:
        heads = [str(number) for number in range(1, len(columns) + 1)]
        legend = [Text(f"{number:>4}  {name}") for number, name in zip(heads, columns, strict=True)]

    # More columns than fit even when numbered go into a table below.
    step = len(heads) if not legend else max(1, room // cell_width)
    tables: list[RenderableType] = []
    for first in range(0, len(heads), step):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
        table.add_column(what)
        for head in heads[first : first + step]:
            table.add_column(escape(head), justify="right", no_wrap=True)
        for name, row in zip(rows, cells, strict=True):
            table.add_row(Text(name), *(_styled(cell) for cell in row[first : first + step]))
        tables.append(table)
    note = Text(f"{_MARK} {best}", style="dim")
    return Group(Text(), *tables, Text(), *legend, note)


def rankings(
    texts: Sequence[str],
    videos: Sequence[str],
    scores: Sequence[Sequence[float]],
    seconds: Sequence[Sequence[float]] | None = None,
    top_k: int | None = None,
) -> RenderableType:
    """For each text its videos, best first.

    Args:
        texts: The texts.
        videos: Paths or addresses of the videos.
        scores: One row a text, one column a video.
        seconds: Of the same shape: where in the video the text fits best.
        top_k: How many videos a text; all if not given.
    """
    tables: list[RenderableType] = []
    for place, text in enumerate(texts):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(text, style="bold"), title_justify="left")
        table.add_column("", justify="right")
        table.add_column("video", overflow="fold")
        table.add_column("score", justify="right")
        if seconds is not None:
            table.add_column("best second", justify="right")
        for rank, column in enumerate(best_first(scores[place])[:top_k], start=1):
            moment = [] if seconds is None else [f"{seconds[place][column]:.1f}"]
            table.add_row(str(rank), Text(videos[column]), f"{scores[place][column]:.2f}", *moment)
        tables.append(table)
    return Group(*tables)


def best_first(scores: Sequence[float]) -> list[int]:
    """Places of the scores from the highest to the lowest; equal ones in their order."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])


def _file_names(videos: Sequence[str]) -> list[str]:
    """For each path its shortest ending that no other path has: most often the name of the file."""
    paths = [PurePath(video).parts for video in videos]
    shared = Counter(path[start:] for path in set(paths) for start in range(len(path)))
    names = []
    for video, path in zip(videos, paths, strict=True):
        endings = (path[start:] for start in range(len(path) - 1, 0, -1))
        ending = next((ending for ending in endings if shared[ending] == 1), None)
        names.append("/".join(ending) if ending else video)
    return names


def _shortened(name: str) -> str:
    """The name, cut in the middle if it is long: beginnings and endings tell names apart."""
    if len(name) <= _HEAD_WIDTH:
        return name
    half = (_HEAD_WIDTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _styled(cell: str) -> Text:
    return Text(cell, style="bold green" if cell.endswith(_MARK) else "")
