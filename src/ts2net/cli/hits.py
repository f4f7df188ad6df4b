"""Print hits for people: one line per hit (two in a narrow terminal), then speech and copies. Lines are never cut."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ..clock import clock

if TYPE_CHECKING:
    from ..search.hits import Hit

_NARROW = 72  # columns
_MOST_COPIES = 3  # printed per hit


def print_hits(console: Console, text: str, hits: Sequence["Hit"], first_rank: int = 1) -> None:
    """Print the moments of a text, best first.

    Args:
        console: Console to print to.
        text: The searched text.
        hits: The moments.
        first_rank: Rank of the first moment.
    """
    console.print(Text(printable(text), style="bold"), soft_wrap=True)
    if not hits:
        console.print(Text("      nothing fits"), soft_wrap=True)
    is_narrow = console.is_terminal and console.width < _NARROW
    scores = ["-" if hit.score is None else f"{hit.score:.2f}" for hit in hits]
    rows = [
        [clock(hit.start), clock(hit.end), clock(hit.second), score] for hit, score in zip(hits, scores, strict=True)
    ]
    if hits and not is_narrow:
        heads = ["from", "to", "best at", "score"]
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        rows = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
        head = "  ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True))
        console.print(Text(f"      {head}  video", style="dim"), soft_wrap=True)
    for rank, (hit, cells) in enumerate(zip(hits, rows, strict=True), start=first_rank):
        name = printable(hit.video_id)
        if is_narrow:
            start, end, second, score = cells
            lines = [f"{rank:>4}  {name}", f"      {start} to {end}, best at {second}, score {score}"]
        else:
            lines = [f"{rank:>4}  {'  '.join(cells)}  {name}"]
        if hit.spoken is not None:
            lines.append(f"      spoken: {printable(hit.spoken)}")
        if hit.copies:
            copies = [f"{printable(copy.video_id)} {clock(copy.start)}" for copy in hit.copies[:_MOST_COPIES]]
            more = f" and {len(hit.copies) - _MOST_COPIES:,} more" if len(hit.copies) > _MOST_COPIES else ""
            lines.append(f"      the same in {', '.join(copies)}{more}")
        for line in lines:
            console.print(Text(line), soft_wrap=True)


def printable(text: str) -> str:
    """Escape line breaks, control codes of terminals and other characters that are not printable."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
