"""An HTML page of search results: for each query the best clips, playing, and where the model looked in them.

Notable here: the page is one file that needs nothing else, and everything in it is escaped by the template engine, for
captions and names may be anyone's. Should something slip through all the same, the page's own policy forbids scripts
other than its one, and every address.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..explanation import Explanation, draw_frame

_PLAY = """
for (const button of document.querySelectorAll("button")) {
  const video = button.firstElementChild;
  const isMouse = (event) => event.pointerType === "mouse";
  button.addEventListener("pointerenter", (event) => isMouse(event) && video.play());
  button.addEventListener("pointerleave", (event) => isMouse(event) && video.pause());
  button.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
}
"""


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Args:
        name: The clip's.
        video: Its file, an mp4.
        caption: What it shows, where that is known.
        explanation: Of the clip and one text, the query.
    """

    name: str
    video: bytes
    caption: str | None
    explanation: Explanation


@dataclass(frozen=True)
class Answer:
    """What was found for a query.

    Args:
        text: The query.
        hits: The best clips, best first.
        rank: Where the clip that the query describes has come, from 1; `None` if there is no such clip.
    """

    text: str
    hits: Sequence[Hit]
    rank: int | None = None


def render_page(
    title: str, summary: str, facts: Sequence[tuple[str, str]], answers: Sequence[Answer], num_clips: int
) -> str:
    """Make the page.

    Args:
        title: Its heading.
        summary: A sentence or two below it.
        facts: Names and values below that.
        answers: One a query.
        num_clips: How many clips were searched.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"data_uri": _data_uri, "frame_png": _frame_png, "ordinal": _ordinal}
    digest = base64.b64encode(hashlib.sha256(_PLAY.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=title,
        summary=summary,
        facts=facts,
        queries=answers,
        num_clips=num_clips,
        script=Markup(_PLAY),
        policy=f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'",
    )


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _frame_png(explanation: Explanation, frame: int) -> bytes:
    file = io.BytesIO()
    draw_frame(explanation, frame).save(file, "PNG", optimize=True)
    return file.getvalue()


def _ordinal(number: int) -> str:
    """1 as "1st"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
