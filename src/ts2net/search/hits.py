"""What a search returns, and how a notebook shows it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from ..clock import clock
from ..pages.rendering import data_uri, printable
from .fusing import found_in
from .options import FoundIn


@dataclass(frozen=True)
class Copy:
    """Another moment that shows the same.

    Args:
        video_id: The video.
        start: Second of the video at which it starts.
        end: Second at which it ends.
        window: Name of the window in the index.
    """

    video_id: str
    start: float
    end: float
    window: str


@dataclass(frozen=True, repr=False)
class Hit:
    """A moment of a video.

    Args:
        video_id: Path of the video; for a member of a tar file that path, `#` and the id of the clip.
        start: Second of the video at which the moment starts.
        end: Second at which it ends.
        second: Second of the best frame; or at which the words are spoken, if they are.
        score: The model's similarity, as `TS2NetModel.similarity` gives it; `None` if the moment was found only
            in what is spoken.
        metadata: Names and values of the video.
        window: Name of the window in the index.
        thumbnail: A small JPEG.
        index: The index that it was found in.
        copies: Other moments that show the same, if they were folded.
        chance: The share of unrelated texts that find something of at least this score in the index; `None` for clips,
            and where the index isn't calibrated.
        spoken: What is spoken around the words of the text; `None` if they were not found in it.
        spoken_score: How well that fits (BM25), which compares with that of other hits of the same text.
    """

    video_id: str
    start: float
    end: float
    second: float
    score: float | None
    metadata: Mapping[str, str]
    window: str
    thumbnail: bytes
    index: str = ""
    copies: tuple[Copy, ...] = ()
    chance: float | None = None
    spoken: str | None = None
    spoken_score: float | None = None

    @property
    def found_in(self) -> tuple[FoundIn, ...]:
        """Where the moment was found: `"picture"`, `"speech"` or both."""
        return found_in(self.score, self.spoken_score)

    def __repr__(self) -> str:
        """Without the picture."""
        score_or_words = f"spoken={self.spoken!r}" if self.score is None else f"score={self.score:.2f}"
        return f"Hit({self.video_id!r}, {clock(self.start)} to {clock(self.end)}, {score_or_words})"

    def _repr_html_(self) -> str:
        """For notebooks: the picture with its times and score."""
        return _gallery([self])


def hit_fields(hit: Hit, name: Callable[[str], str] = str) -> dict[str, Any]:
    """What a program is told of a hit, as JSON holds it, but for its metadata.

    Args:
        hit: The hit.
        name: Turns the ids of videos into the names by which they are told.
    """
    return {
        "video": name(hit.video_id),
        "start": hit.start,
        "end": hit.end,
        "second": hit.second,
        "score": hit.score,
        "chance": hit.chance,
        "found_in": list(hit.found_in),
        "spoken": hit.spoken,
        "window": hit.window,
        "copies": [
            {"video": name(copy.video_id), "start": copy.start, "end": copy.end, "window": copy.window}
            for copy in hit.copies
        ],
    }


class Hits(list[Hit]):
    """The moments of one query, best first: a list that a notebook shows with pictures."""

    def _repr_html_(self) -> str:
        return _gallery(self) if self else "<p>Nothing was found.</p>"


def _gallery(hits: Iterable[Hit]) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{"".join(map(_figure, hits))}</div>'


def _figure(hit: Hit) -> str:
    name = escape(printable(hit.video_id))
    score = "" if hit.score is None else f", score {hit.score:.2f}"
    best = "best at" if hit.spoken is None else "spoken at"
    spoken = "" if hit.spoken is None else f"<br><q>{escape(printable(hit.spoken))}</q>"
    return (
        f'<figure style="margin:0;width:14em;overflow-wrap:anywhere">'
        f'<img src="{data_uri(hit.thumbnail)}" alt="the middle of the moment" style="width:100%">'
        f"<figcaption><b>{clock(hit.start)} – {clock(hit.end)}</b>, {best} {clock(hit.second)}"
        f"{score}{spoken}<br>{name}</figcaption></figure>"
    )
