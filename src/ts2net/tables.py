"""Tables of scores for a terminal.

The longer side of a matrix becomes the rows. Columns are numbered when their names are too wide for the terminal. The
best score is marked by a character and not only by a colour, because log files have no colours.
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
_HEAD_WIDTH = 24  # characters, maximum length of a column's head
_MIN_ROW_NAME_WIDTH = 20


def score_matrix(
    console: Console, texts: Sequence[str], videos: Sequence[str], scores: Sequence[Sequence[float]]
) -> RenderableType:
    """Create a table of all scores. The best score of each row is marked, or the best score of a single column.

    Args:
        console: The console for the table, which is fitted to its width.
        texts: The texts.
        videos: Paths or addresses of the videos.
        scores: One row per text, one column per video.
    """
    rows, columns = list(texts), _file_names(videos)
    row_kind, best = "text", "for each text, its best video"
    if len(videos) > len(texts):
        rows, columns = columns, rows
        scores = list(zip(*scores, strict=True))
        row_kind, best = "video", "for each video, its best text"
    marked = [max(row) for row in scores]
    if len(columns) == 1:  # a row has one score
        marked = [max(marked)] * len(rows)
        best = f"the best {row_kind}"
    cells = [
        [f"{score:.2f}{_MARK if score == highest else ' '}" for score in row]
        for row, highest in zip(scores, marked, strict=True)
    ]

    cell_width = max(len(cell) for row in cells for cell in row) + 1
    room = console.width - min(max(map(len, rows)), _MIN_ROW_NAME_WIDTH)
    heads, legend = [_shortened(column) for column in columns], []
    ambiguous = len(set(heads)) < len(set(columns))  # after shortening
    if ambiguous or sum(max(len(head) + 1, cell_width) for head in heads) > room:
        heads = [str(number) for number in range(1, len(columns) + 1)]
        legend = [Text(f"{number:>4}  {name}") for number, name in zip(heads, columns, strict=True)]

    # Columns that do not fit even when numbered go into another table below.
    step = len(heads) if not legend else max(1, room // cell_width)
    tables: list[RenderableType] = []
    for first in range(0, len(heads), step):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
        table.add_column(row_kind)
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
    """Create a table of ranked videos for each text.

    Args:
        texts: The texts.
        videos: Paths or addresses of the videos.
        scores: One row per text, one column per video.
        seconds: The best second of each video, of the same shape as `scores`; `None` leaves the column out.
        top_k: Maximum number of videos per text; `None` shows all.
    """
    tables: list[RenderableType] = []
    for index, text in enumerate(texts):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(text, style="bold"), title_justify="left")
        table.add_column("", justify="right")
        table.add_column("video", overflow="fold")
        table.add_column("score", justify="right")
        if seconds is not None:
            table.add_column("best second", justify="right")
        for rank, column in enumerate(best_first(scores[index])[:top_k], start=1):
            moment = [] if seconds is None else [f"{seconds[index][column]:.1f}"]
            table.add_row(str(rank), Text(videos[column]), f"{scores[index][column]:.2f}", *moment)
        tables.append(table)
    return Group(*tables)


def best_first(scores: Sequence[float]) -> list[int]:
    """Return the indices of the scores from the highest to the lowest. Equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def _file_names(videos: Sequence[str]) -> list[str]:
    """Return the shortest unique ending of each path, usually the file name."""
    paths = [PurePath(video).parts for video in videos]
    shared = Counter(path[start:] for path in set(paths) for start in range(len(path)))
    names = []
    for video, path in zip(videos, paths, strict=True):
        endings = (path[start:] for start in range(len(path) - 1, 0, -1))
        ending = next((ending for ending in endings if shared[ending] == 1), None)
        names.append("/".join(ending) if ending else video)
    return names


def _shortened(name: str) -> str:
    """Shorten a long name in the middle, because beginnings and endings distinguish names."""
    if len(name) <= _HEAD_WIDTH:
        return name
    half = (_HEAD_WIDTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _styled(cell: str) -> Text:
    return Text(cell, style="bold green" if cell.endswith(_MARK) else "")
