"""Exact scores of windows, and the best of any number of them without scoring all in full.

Notable here:
- A window's score is computed in float64 from its own frames and the query alone, each sum in one fixed order, and is
  then rounded to float32. So it is the same bit for bit whatever else is scored with it, and equal windows tie.
- A score lies between bounds that come from one float32 matrix product for a whole batch: the mean and the best of the
  window's cosines. Only windows whose upper bound reaches what the best windows have at least are scored in full.
  Word-token interaction has bounds of its own, see `word_matching`.

Shapes: `Q` queries, `W` windows, `T` frames of a window, `D` width.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .about import About
from .records import WindowBatch

# More than rounding does to a cosine in float32, of any width in use (D * 2**-24 at the most), and to a score.
_SLACK = 5e-4
_ROWS_IN_CACHE = 256
# Float32 has 13 bits more of a number after the point, and counts exponents from 112 lower.
_MORE_MANTISSA_BITS = 13
_WITHOUT_COPIES_OF_SIGN = np.array(0x8FFFE000, dtype=np.uint32).view(np.int32)
_EXPONENT_OFFSET = np.float32(2.0**112)
TINY = 1e-12  # lengths below count as this, as in the model


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

    def scores(self, frames: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score windows in full, see [`exact_scores`]."""
        return exact_scores(frames, query, self)

    def bounds(self, batch: WindowBatch, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the scores lie between, in float32 and not scaled: `(W, Q)` each."""
        units = np.asarray(queries, dtype=np.float32)
        units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), TINY)
        cosines = frame_cosines(batch, units)  # (all frames, Q)
        starts = window_starts(batch)
        means = np.add.reduceat(cosines, starts, axis=0) / batch.lengths[:, None]
        return means, np.maximum.reduceat(cosines, starts, axis=0)

    def direction(self, query: np.ndarray) -> np.ndarray:
        """The vector of length 1 whose product with a window's mean tells candidates, `(D,)`."""
        return query / np.linalg.norm(query)


@dataclass(frozen=True, order=True)
class ScoredWindow:
    """A window with its score for one query. In sorted order the best comes first; ties go by video, then start.

    Args:
        negated_score: Minus the score, a float32.
        video_id: See `sources.VideoFile`.
        start: Second at which it starts.
        end: Second at which it ends.
        row: Its row in the snapshot that was searched.
        frame: Number of the best frame in the window.
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


@dataclass(frozen=True)
class Top:
    """The best windows of each query.

    Args:
        windows: One list a query, best first.
        pairs: How many pairs of a query and a window there were.
        scored_in_full: How many of these pairs were scored in full.
    """

    windows: list[list[ScoredWindow]]
    pairs: int
    scored_in_full: int


def exact_scores(frames: np.ndarray, query: np.ndarray, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Score windows of one number of frames in full.

    Args:
        frames: Frame embeddings of any length and float type, `(W, T, D)`.
        query: `(D,)`, of any length too.
        matching: How to match.

    Returns:
        Scores `(W,)` in float32, and the number of each window's best frame `(W,)`.
    """
    # np.vecdot sums each pair on its own, where a matrix product would sum as its shape suggests.
    frames = np.ascontiguousarray(frames, dtype=np.float64)
    query = np.ascontiguousarray(query, dtype=np.float64)
    query = query / max(np.sqrt(np.vecdot(query, query)), TINY)
    lengths = np.maximum(np.sqrt(np.vecdot(frames, frames)), TINY)
    cosines = np.vecdot(frames, query) / lengths  # (W, T)
    if matching.temperature is None:
        logits = np.zeros_like(cosines)
    else:
        norms = np.sqrt(np.vecdot(cosines, cosines))
        logits = matching.temperature * cosines / np.maximum(norms, TINY)[:, None]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = matching.scale * (np.vecdot(weights, cosines) / weights.sum(axis=1))
    return scores.astype(np.float32), cosines.argmax(axis=1)


def top_windows(batches: Iterable[WindowBatch], queries: np.ndarray, count: int, matching: Matching) -> Top:
    """Find the best windows of each query, reading every batch once.

    Args:
        batches: The windows to choose from.
        queries: Query embeddings `(Q, D)` in float32; with word-token interaction `(Q, words, D)`, zeros for padding.
        count: How many windows a query.
        matching: How to match.
    """
    best: list[list[ScoredWindow]] = [[] for _ in queries]
    pairs = scored_in_full = 0
    for batch in batches:
        pairs += len(batch) * len(queries)
        lower, upper = matching.bounds(batch, queries)
        for number, query in enumerate(queries):
            threshold = _threshold(best[number], lower[:, number], count, matching)
            positions = np.flatnonzero(upper[:, number] >= threshold)
            scored_in_full += len(positions)
            best[number] = sorted([*best[number], *_score(batch, positions, query, matching)])[:count]
    return Top(best, pairs, scored_in_full)


def frame_cosines(batch: WindowBatch, units: np.ndarray) -> np.ndarray:
    """Cosines of all frames of a batch with vectors `(n, D)` of length 1, in float32: `(all frames, n)`."""
    frames = half_to_single(batch.frames)  # (all frames, D)
    lengths = np.maximum(np.sqrt(np.vecdot(frames, frames)), TINY)
    return frames @ units.T / lengths[:, None]


def half_to_single(values: np.ndarray) -> np.ndarray:
    """Finite numbers `(n, D)` in float16 as float32, the same that `astype` gives.

    NumPy converts one number at a time, which takes four times as long and most of the time of an exact search.
    """
    result = np.empty(values.shape, dtype=np.float32)
    for first in range(0, len(values), _ROWS_IN_CACHE):
        some = result[first : first + _ROWS_IN_CACHE]
        bits = some.view(np.int32)
        bits[:] = values[first : first + _ROWS_IN_CACHE].view(np.int16)  # the sign fills the upper bits
        bits <<= _MORE_MANTISSA_BITS
        bits &= _WITHOUT_COPIES_OF_SIGN
        some *= _EXPONENT_OFFSET
    return result


def window_starts(batch: WindowBatch) -> np.ndarray:
    """Where in the frames of a batch each window begins, `(W,)`."""
    return np.cumsum(batch.lengths) - batch.lengths


def _threshold(best: list[ScoredWindow], lower: np.ndarray, count: int, matching: Matching) -> float:
    """What a window's upper bound has to reach: no window below is among the `count` best so far."""
    threshold = -np.inf
    if len(best) == count:
        threshold = best[-1].score / matching.scale
    if len(lower) >= count:  # as many windows score at least this much
        threshold = max(threshold, float(np.partition(lower, len(lower) - count)[len(lower) - count]))
    return threshold - 2 * _SLACK


def _score(batch: WindowBatch, positions: np.ndarray, query: np.ndarray, matching: Matching) -> list[ScoredWindow]:
    """Some windows of a batch with their exact scores."""
    scored = []
    starts = window_starts(batch)
    for length in np.unique(batch.lengths[positions]):
        some = positions[batch.lengths[positions] == length]
        frames = batch.frames[starts[some][:, None] + np.arange(length)]  # (some, length, D)
        scores, best_frames = matching.scores(frames, query)
        rows = zip(scores.tolist(), batch.moments(some), batch.rows[some].tolist(), best_frames.tolist(), strict=True)
        scored += [ScoredWindow(-score, *moment, row, frame) for score, moment, row, frame in rows]
    return scored
