"""Self-contained page of search results, with a picture of each moment that plays the video from the moment.

The address of a video is a `file:` URL with the moment as its fragment (`#t=start,end`), so the video plays only on
the computer that has the file. A member of a tar file has no address, so only its picture is shown.
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
    """Moments found for a text, best first."""

    text: str
    hits: "Sequence[Hit]"


def render_search_page(title: str, answers: Sequence[Answer]) -> str:
    """Render the page.

    Args:
        title: Heading of the page.
        answers: Moments of each text.
    """
    return render_page("search.html", media="file:", title=title, answers=answers, address=_address)


def _address(hit: "Hit") -> str | None:
    """Return the address of a moment; `None` if its video is not a separate file."""
    if not os.path.isabs(hit.video_id) or not os.path.isfile(hit.video_id):
        return None
    return f"{Path(hit.video_id).as_uri()}#t={hit.start:.3f},{hit.end:.3f}"
