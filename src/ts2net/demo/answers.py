"""What the demo's model finds for each query, and where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..explanation import DrawnFrame, drawn_frames, explain
from ..hub.loading import load_model
from ..tables import best_first


@dataclass(frozen=True)
class Clip:
    """A clip that can be found.

    Args:
        name: The clip's.
        path: Its file, an mp4.
        caption: What it shows.
    """

    name: str
    path: Path
    caption: str


@dataclass(frozen=True)
class FoundClip:
    """A clip that was found for a query.

    Args:
        clip: The clip.
        video: The content of its file.
        score: How well it fits the query.
        frames: The frames that the model saw.
    """

    clip: Clip
    video: bytes
    score: float
    frames: Sequence[DrawnFrame]


@dataclass(frozen=True)
class Query:
    """A query with what was found for it.

    Args:
        text: The query.
        clips: The best clips, best first.
        rank: Rank of the clip that the query describes, from 1; `None` if there is no such clip.
    """

    text: str
    clips: Sequence[FoundClip]
    rank: int | None = None


def find_clips(
    model: Path, clips: Sequence[Clip], texts: Sequence[str], scores: Sequence[Sequence[float]], top_k: int
) -> list[Query]:
    """Take the best clips for each text, and explain them.

    Args:
        model: Folder of the model that computed the scores.
        clips: The clips.
        texts: The queries.
        scores: One row a text, one column a clip.
        top_k: Clips a query.
    """
    network, processor = load_model(model)
    queries = []
    for text, row in zip(texts, scores, strict=True):
        found = []
        for index in best_first(row)[:top_k]:
            clip = clips[index]
            explanation = explain(network, processor, clip.path, [text])
            frames = drawn_frames(explanation, format="PNG")
            found.append(FoundClip(clip, clip.path.read_bytes(), explanation.scores[0], frames))
        queries.append(Query(text, found, _rank(text, clips, row)))
    return queries


def _rank(text: str, clips: Sequence[Clip], row: Sequence[float]) -> int | None:
    """Rank of the clip with this caption, after clips of an equal score; `None` if no clip has it."""
    own = [score for clip, score in zip(clips, row, strict=True) if clip.caption == text]
    others = [score for clip, score in zip(clips, row, strict=True) if clip.caption != text]
    return 1 + sum(score >= max(own) for score in others) if own else None
