"""The page of a search in one file: for each text its moments, as pictures that play from there.

A video is named by its address on this computer, with the moment as the address's fragment (`#t=start,end`), so it
plays on the computer that has the file. A member of a tar file has no address: only its picture is shown.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .rendering import render_page

if TYPE_CHECKING:
    from ..search.hits import Hit


@dataclass(frozen=True)
class Answer:
    """The moments found for a text, best first."""

    text: str
    hits: "Sequence[Hit]"


def render_search_page(title: str, answers: Sequence[Answer]) -> str:
    """Make the page.

    Args:
        title: Its heading.
        answers: One a text.
    """
    return render_page("search.html", media="file:", title=title, answers=answers, address=_address)


def _address(hit: "Hit") -> str | None:
    """Where a moment plays; `None` if its video is no file of its own."""
    if not os.path.isabs(hit.video_id) or not os.path.isfile(hit.video_id):
        return None
    return f"{Path(hit.video_id).as_uri()}#t={hit.start:.3f},{hit.end:.3f}"
