"""Queries over the clips: the scores of another process turned into hits, each with where the model looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..explanation import explain
from ..hub.loading import load_model
from ..tables import best_first
from .page import Answer, Hit


@dataclass(frozen=True)
class Clip:
    """A clip that can be found: its name, its file and what it shows."""

    name: str
    path: Path
    caption: str


def find_answers(
    model: Path, clips: Sequence[Clip], texts: Sequence[str], scores: Sequence[Sequence[float]], top_k: int
) -> list[Answer]:
    """Take the best clips for each text, and explain them.

    Args:
        model: The folder of the model that has scored.
        clips: The clips.
        texts: The queries.
        scores: One row a text, one column a clip.
        top_k: Hits a query.
    """
    network, processor = load_model(model)
    answers = []
    for text, row in zip(texts, scores, strict=True):
        hits = []
        for place in best_first(row)[:top_k]:
            clip = clips[place]
            explanation = explain(network, processor, clip.path, [text])
            hits.append(Hit(clip.name, clip.path.read_bytes(), clip.caption, explanation))
        answers.append(Answer(text, hits, _rank(text, clips, row)))
    return answers


def _rank(text: str, clips: Sequence[Clip], row: Sequence[float]) -> int | None:
    """Where the clip of this caption comes, ties counted against it; `None` if no clip has it."""
    own = [score for clip, score in zip(clips, row, strict=True) if clip.caption == text]
    others = [score for clip, score in zip(clips, row, strict=True) if clip.caption != text]
    return 1 + sum(score >= max(own) for score in others) if own else None
