"""An HTML page of search results: for each text its moments, as pictures that play from there.

Notable here: the page is one file. It names the videos where they lie, with the moment as the address's fragment
(`#t=start,end`), so it plays on the computer that holds them; a member of a tar file has no address and only shows its
picture. Everything in it is escaped by the template engine, for texts and names may be anyone's, and the page's own
policy allows no script and no address but files.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..clock import clock
from .index import Hit

_POLICY = "default-src 'none'; img-src data:; media-src file:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Answer:
    """What was found for a text, best first."""

    text: str
    hits: Sequence[Hit]


def render_page(title: str, answers: Sequence[Answer]) -> str:
    """Make the page.

    Args:
        title: Its heading.
        answers: One a text.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"address": _address, "clock": clock, "jpeg_uri": _jpeg_uri, "readable": _readable}
    return environment.get_template("page.html").render(title=title, answers=answers, policy=_POLICY)


def _address(hit: Hit) -> str | None:
    """Where the moment plays; `None` if the video is no file of its own."""
    if not os.path.isabs(hit.video_id) or not os.path.isfile(hit.video_id):
        return None
    return f"{Path(hit.video_id).as_uri()}#t={hit.start:.3f},{hit.end:.3f}"


def _jpeg_uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _readable(name: str) -> str:
    """A name without what no encoding has."""
    return name.encode(errors="backslashreplace").decode()
