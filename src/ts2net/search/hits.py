"""Results of a search, with their display in notebooks."""

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
    """A moment that shows the same as a hit.

    Args:
        video_id: The video.
        start: Start of the moment, in seconds of the video.
        end: End of the moment, in seconds of the video.
        window: Name of the window in the index.
    """

    video_id: str
    start: float
    end: float
    window: str


@dataclass(frozen=True, repr=False)
class Hit:
    """A moment of a video that was found.

    Args:
        video_id: Path of the video. For a member of a tar file: the path of the tar file, `#` and the id of the clip.
        start: Start of the moment, in seconds of the video.
        end: End of the moment, in seconds of the video.
        second: Time of the best frame in seconds, or of the words if they are spoken in the moment.
        score: The model's similarity, as `TS2NetModel.similarity` returns it; `None` if the moment was found only in
            speech.
        metadata: Names and values of the video's metadata.
        window: Name of the window in the index.
        thumbnail: A small JPEG image.
        index: Location of the index.
        copies: Other moments that show the same, if copies are folded.
        chance: Share of unrelated texts whose best score in the index is at least `score`; `None` for queries by a
            clip, if `score` is `None`, and if the index isn't calibrated.
        spoken: Text of the subtitles around the words of the query; `None` if the words are not spoken in the moment.
        spoken_score: BM25 score of the spoken words, comparable among the hits of one text; else `None`.
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
        """Modalities in which the moment was found: `"picture"`, `"speech"` or both."""
        return found_in(self.score, self.spoken_score)

    def __repr__(self) -> str:
        """Show times and score, but not the bytes of the thumbnail."""
        score_or_words = f"spoken={self.spoken!r}" if self.score is None else f"score={self.score:.2f}"
        return f"Hit({self.video_id!r}, {clock(self.start)} to {clock(self.end)}, {score_or_words})"

    def _repr_html_(self) -> str:
        """Show the thumbnail with its times and score in notebooks."""
        return _gallery([self])


def hit_fields(hit: Hit, name: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the fields of a hit for JSON, without its metadata.

    Args:
        hit: The hit.
        name: Converts the id of a video to the name that is shown.
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
    """List of the hits of one query, best first. A notebook displays it with thumbnails."""

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
