"""The demo's page: for each query the best clips, playing, and where the model looked in them."""

from collections.abc import Sequence

from ..pages.rendering import render_page
from .answers import Query


def render_demo_page(
    title: str, summary: str, facts: Sequence[tuple[str, str]], queries: Sequence[Query], num_clips: int
) -> str:
    """Make the page, in one file.

    Args:
        title: Its heading.
        summary: A sentence or two below it.
        facts: Names and values below that.
        queries: With the clips that were found.
        num_clips: How many clips were searched.
    """
    return render_page(
        "demo.html",
        media="data:",
        script="demo.js",
        title=title,
        summary=summary,
        facts=facts,
        queries=queries,
        num_clips=num_clips,
        ordinal=_ordinal,
    )


def _ordinal(number: int) -> str:
    """Write 1 as "1st"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
