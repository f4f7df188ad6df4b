"""Exact scores of windows, and a search for the best windows that scores few of them in full.

- The score of a window is computed in float64 from its own frames and the query alone, each sum in a fixed order, and
  then rounded to float32. So it does not depend on other windows, bit for bit, and equal windows tie.
- Bounds of the scores come from one float32 matrix product per batch: the mean and the maximum of a window's cosines.
  Only windows whose upper bound reaches the threshold of the best windows are scored in full. Word-token interaction
  has bounds of its own, see `word_matching`.

Shapes: `Q` queries, `W` windows, `T` frames of a window, `D` width.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .about import About
from .records import WindowBatch

# Larger than the rounding error of a cosine in float32 (at most D * 2**-24) and of a score, for any width in use.
_SLACK = 5e-4
_ROWS_IN_CACHE = 256
# Float32 has 13 more bits of mantissa than float16, and its exponent bias is 112 higher.
_MORE_MANTISSA_BITS = 13
_WITHOUT_COPIES_OF_SIGN = np.array(0x8FFFE000, dtype=np.uint32).view(np.int32)
_EXPONENT_OFFSET = np.float32(2.0**112)
TINY = 1e-12  # lower limit of lengths, as in the model


@dataclass(frozen=True)
class Matching:
    """Matching of a text with frames (paper, section 3.5).

    Args:
        temperature: Temperature of the frame weights; `None` for the plain mean.
        scale: Factor on the weighted mean of the cosines.
    """

    temperature: float | None
    scale: float

    @classmethod
    def of(cls, about: About) -> "Matching":
        """Return the matching of the model that an index was made with."""
        return cls(about.temperature if about.matching_kind == "weighted" else None, about.logit_scale)

    def scores(self, frames: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score windows in full; see [`exact_scores`]."""
        return exact_scores(frames, query, self)

    def bounds(self, batch: WindowBatch, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bounds of the scores before scaling, `(W, Q)` each, in float32."""
        units = np.asarray(queries, dtype=np.float32)
        units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), TINY)
        cosines = frame_cosines(batch, units)  # (all frames, Q)
        starts = window_starts(batch)
        means = np.add.reduceat(cosines, starts, axis=0) / batch.lengths[:, None]
        return means, np.maximum.reduceat(cosines, starts, axis=0)

    def direction(self, query: np.ndarray) -> np.ndarray:
        """Return the unit vector `(D,)` whose dot product with the mean of a window ranks candidates."""
        return query / np.linalg.norm(query)


@dataclass(frozen=True, order=True)
class ScoredWindow:
    """A window with its score for one query. Sorting puts the best first and breaks ties by video, then start.

    Args:
        negated_score: The negative of the score, a float32.
        video_id: See `sources.VideoFile`.
        start: Start in seconds.
        end: End in seconds.
        row: Row in the snapshot that was searched.
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
        windows: One list for each query, best first.
        pairs: Number of pairs of a query and a window.
        scored_in_full: Number of these pairs that were scored in full.
    """

    windows: list[list[ScoredWindow]]
    pairs: int
    scored_in_full: int


def exact_scores(frames: np.ndarray, query: np.ndarray, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Score windows with the same number of frames in full.

    Args:
        frames: Frame embeddings `(W, T, D)`, of any length and float type.
        query: Query embedding `(D,)`, of any length.
        matching: How to match.

    Returns:
        Scores `(W,)` in float32, and the number of each window's best frame `(W,)`.
    """
    # np.vecdot sums each pair separately. The order of summation in a matrix product depends on its shape.
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
        batches: The windows.
        queries: Query embeddings `(Q, D)` in float32; with word-token interaction `(Q, words, D)`, zeros for padding.
        count: Number of windows for each query.
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
    """Compute the cosines of all frames of a batch with unit vectors `(n, D)`, in float32: `(all frames, n)`."""
    frames = half_to_single(batch.frames)  # (all frames, D)
    lengths = np.maximum(np.sqrt(np.vecdot(frames, frames)), TINY)
    return frames @ units.T / lengths[:, None]


def half_to_single(values: np.ndarray) -> np.ndarray:
    """Convert finite numbers `(n, D)` from float16 to float32, with the same result as `astype`.

    NumPy converts one number at a time, which is four times slower and would take most of the time of an exact search.
    """
    result = np.empty(values.shape, dtype=np.float32)
    for first in range(0, len(values), _ROWS_IN_CACHE):
        some = result[first : first + _ROWS_IN_CACHE]
        bits = some.view(np.int32)
        bits[:] = values[first : first + _ROWS_IN_CACHE].view(np.int16)  # sign extension fills the upper bits
        bits <<= _MORE_MANTISSA_BITS
        bits &= _WITHOUT_COPIES_OF_SIGN
        some *= _EXPONENT_OFFSET
    return result


def window_starts(batch: WindowBatch) -> np.ndarray:
    """Return the index `(W,)` of each window's first frame among the frames of a batch."""
    return np.cumsum(batch.lengths) - batch.lengths


def _threshold(best: list[ScoredWindow], lower: np.ndarray, count: int, matching: Matching) -> float:
    """Return the least upper bound with which a window can be among the `count` best so far."""
    threshold = -np.inf
    if len(best) == count:
        threshold = best[-1].score / matching.scale
    if len(lower) >= count:  # at least `count` windows reach this score
        threshold = max(threshold, float(np.partition(lower, len(lower) - count)[len(lower) - count]))
    return threshold - 2 * _SLACK


def _score(batch: WindowBatch, positions: np.ndarray, query: np.ndarray, matching: Matching) -> list[ScoredWindow]:
    """Score some windows of a batch in full."""
    scored = []
    starts = window_starts(batch)
    for length in np.unique(batch.lengths[positions]):
        some = positions[batch.lengths[positions] == length]
        frames = batch.frames[starts[some][:, None] + np.arange(length)]  # (some, length, D)
        scores, best_frames = matching.scores(frames, query)
        rows = zip(scores.tolist(), batch.moments(some), batch.rows[some].tolist(), best_frames.tolist(), strict=True)
        scored += [ScoredWindow(-score, *moment, row, frame) for score, moment, row, frame in rows]
    return scored
