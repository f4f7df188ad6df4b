"""Exact scores of windows, and the best of any number of them without scoring all in full.

Notable here:
- A window's score is computed in float64 from its own frames and the query alone, each sum in one fixed order, and is
  then rounded to float32. So it is the same bit for bit whatever else is scored with it, and equal windows tie.
- A score lies between the mean and the best of the window's cosines. Those two come from one float32 matrix product
  for a whole batch; only windows whose best frame reaches what the best windows have at least are scored in full.

Shapes: `Q` queries, `W` windows, `T` frames of a window, `D` width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .store import About, name_from_text

# More than rounding does to a cosine in float32, of any width in use (D * 2**-24 at the most), and to a score.
_SLACK = 5e-4
_TINY = 1e-12  # lengths below count as this, as in the model


@dataclass(frozen=True)
class Matching:
    """How a model matches a text with frames (paper, section 3.5).

    Args:
        temperature: Of the weights; `None` for the plain mean.
        scale: What the weighted mean of the cosines is multiplied by.
    """

    temperature: float | None
    scale: float

    @classmethod
    def of(cls, about: About) -> "Matching":
        """The matching of the model that an index was made with."""
        return cls(about.temperature if about.matching_kind == "weighted" else None, about.logit_scale)


class WindowFrames:
    """The frames of some windows, as they lie in the column `frames`, with nothing copied.

    Args:
        column: Of type `list<fixed_size_list<float16, D>>`; every window has a frame at least.
    """

    def __init__(self, column: pa.ListArray) -> None:
        offsets = column.offsets.to_numpy()
        self.starts: np.ndarray = offsets[:-1] - offsets[0]  # (W,)
        self.lengths: np.ndarray = np.diff(offsets)  # (W,)
        flat = column.flatten()  # honours where a slice begins
        self.values = flat.flatten()
        self.flat: np.ndarray = self.values.to_numpy().reshape(len(flat), flat.type.list_size)  # (all frames, D)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.lengths)

    def of_length(self, length: int, places: np.ndarray) -> np.ndarray:
        """The frames of windows that all have `length` of them: `(places, length, D)`."""
        return self.flat[self.starts[places][:, None] + np.arange(length)]


@dataclass(frozen=True, order=True)
class ScoredWindow:
    """A window with its score for one query. Sorted, they go from the best to the worst; ties by video, then start.

    Args:
        negated_score: Minus the score, a float32.
        video_id: Path of the video.
        start: Seconds, as is `end`.
        end: Where it ends.
        row: Its row in the snapshot that was searched.
        frame: Place of the best frame in the window.
    """

    negated_score: float
    video_id: str
    start: float
    end: float
    row: int
    frame: int

    @property
    def score(self) -> float:
        """The score."""
        return -self.negated_score


COLUMNS = ("video", "start", "end", "frames")  # what `top_windows` reads, beside the row


@dataclass(frozen=True)
class Top:
    """The best windows of each query.

    Args:
        windows: One list a query, best first.
        seen: Pairs of a query and a window that there were.
        in_full: How many of them were scored in full.
    """

    windows: list[list[ScoredWindow]]
    seen: int
    in_full: int


def exact_scores(frames: np.ndarray, query: np.ndarray, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Score windows of one number of frames in full.

    Args:
        frames: Frame embeddings of any length and float type, `(W, T, D)`.
        query: `(D,)`, of any length too.
        matching: How to match.

    Returns:
        Scores `(W,)` in float32, and of each window the place of its best frame `(W,)`.
    """
    # np.vecdot sums each pair on its own, where a matrix product would sum as its shape suggests.
    frames = np.ascontiguousarray(frames, dtype=np.float64)
    query = np.ascontiguousarray(query, dtype=np.float64)
    query = query / max(np.sqrt(np.vecdot(query, query)), _TINY)
    lengths = np.maximum(np.sqrt(np.vecdot(frames, frames)), _TINY)
    cosines = np.vecdot(frames, query) / lengths  # (W, T)
    if matching.temperature is None:
        logits = np.zeros_like(cosines)
    else:
        norms = np.sqrt(np.vecdot(cosines, cosines))
        logits = matching.temperature * cosines / np.maximum(norms, _TINY)[:, None]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = matching.scale * (np.vecdot(weights, cosines) / weights.sum(axis=1))
    return scores.astype(np.float32), cosines.argmax(axis=1)


def top_windows(
    batches: Iterable[pa.RecordBatch], queries: np.ndarray, count: int, matching: Matching, *, prune: bool = True
) -> Top:
    """Find the best windows of each query, reading every batch once.

    Args:
        batches: Rows of the index with [`COLUMNS`] and `_rowid`.
        queries: Query embeddings `(Q, D)` in float32.
        count: How many windows a query.
        matching: How to match.
        prune: Whether to leave out windows that their bounds rule out. The result is the same.
    """
    best: list[list[ScoredWindow]] = [[] for _ in queries]
    seen = in_full = 0
    units = torch.nn.functional.normalize(torch.from_numpy(np.asarray(queries, dtype=np.float32)), dim=-1)
    for batch in batches:
        if not batch.num_rows:
            continue
        frames = WindowFrames(batch.column("frames"))
        seen += len(frames) * len(queries)
        means, bests = _bounds(frames, units) if prune else (None, None)
        for place, query in enumerate(queries):
            if means is None or bests is None:
                rows = np.arange(len(frames))
            else:
                floor = _floor(best[place], means[:, place], count, matching)
                rows = np.flatnonzero(bests[:, place] >= floor)
            in_full += len(rows)
            best[place] = sorted([*best[place], *_score_rows(batch, frames, rows, query, matching)])[:count]
    return Top(best, seen, in_full)


def _bounds(frames: WindowFrames, units: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the best cosine of each window and query, `(W, Q)` each, in float32."""
    # Not by way of NumPy, of whose arrays torch would have to write to the memory.
    flat = torch.from_dlpack(frames.values).view(frames.flat.shape).float()  # (all frames, D)
    lengths = torch.linalg.vector_norm(flat, dim=-1, keepdim=True).clamp_min(_TINY)
    cosines = (flat @ units.T / lengths).numpy()  # (all frames, Q)
    sums = np.add.reduceat(cosines, frames.starts, axis=0)
    return sums / frames.lengths[:, None], np.maximum.reduceat(cosines, frames.starts, axis=0)


def _floor(best: list[ScoredWindow], means: np.ndarray, count: int, matching: Matching) -> float:
    """What the best cosine of a window has to reach: no window below is among the `count` best so far."""
    floor = -np.inf
    if len(best) == count:
        floor = best[-1].score / matching.scale
    if len(means) >= count:  # as many windows score at least this much
        floor = max(floor, float(np.partition(means, len(means) - count)[len(means) - count]))
    return floor - 2 * _SLACK


def _score_rows(
    batch: pa.RecordBatch, frames: WindowFrames, rows: np.ndarray, query: np.ndarray, matching: Matching
) -> list[ScoredWindow]:
    scored = []
    for length in np.unique(frames.lengths[rows]):
        places = rows[frames.lengths[rows] == length]
        scores, best_frames = exact_scores(frames.of_length(length, places), query, matching)
        columns: dict[str, list[Any]] = {
            name: batch.column(name).take(pa.array(places)).to_pylist() for name in ("video", "start", "end", "_rowid")
        }
        scored += [
            ScoredWindow(-score, name_from_text(video), start, end, row, frame)
            for score, frame, video, start, end, row in zip(
                scores.tolist(), best_frames.tolist(), *columns.values(), strict=True
            )
        ]
    return scored
