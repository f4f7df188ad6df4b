"""Word-token interaction in an index: exact scores and bounds from the frames alone.

With `a` the words' weights, `b` the frames', and `c` the cosines, a score is half of `sum_w a[w] max_t c[w, t]` and
half of `sum_t b[t] max_w c[w, t]`. The first half needs no weight of a frame. The second is a mean of what each
frame's best word has, so it lies between the least and the most of them, whatever the weights. So both bounds come
from one matrix product, and the network that weighs frames, which costs more than all else, runs only for windows
that may be among the best.

Shapes: `W` windows, `T` frames of a window, `Q` queries, `D` width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .about import About
from .matching import TINY, Matching, frame_cosines, window_starts
from .records import WindowBatch

if TYPE_CHECKING:
    import torch

    from ..modeling_ts2net import TS2NetModel


@dataclass(frozen=True)
class TokenScorer:
    """One of the two networks, in float64, each sum in one fixed order.

    Args:
        hidden: Weights of the first layer, `(D, D)`.
        bias: Its bias, `(D,)`.
        out: Weights of the second layer, `(D,)`.
    """

    hidden: np.ndarray
    bias: np.ndarray
    out: np.ndarray

    @classmethod
    def of(cls, scorer: "torch.nn.Module") -> "TokenScorer":
        """A copy of the model's."""
        state = {name: value.detach().cpu().double().numpy() for name, value in scorer.state_dict().items()}
        return cls(state["fc1.weight"], state["fc1.bias"], state["fc2.weight"][0])

    def weights(self, units: np.ndarray) -> np.ndarray:
        """The weights `(..., n)` of tokens of length 1, `(..., n, D)`."""
        scaled = units * units.shape[-1] ** 0.5
        hidden = np.maximum(np.vecdot(scaled[..., None, :], self.hidden) + self.bias, 0)  # (..., n, D)
        logits = np.vecdot(hidden, self.out)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class WordMatching(Matching):
    """How a model with word-token interaction matches a text with frames. A query is `(words, D)`, zeros for padding.

    Args:
        word_scorer: Weighs words.
        frame_scorer: Weighs frames.
    """

    word_scorer: TokenScorer
    frame_scorer: TokenScorer

    def scores(self, frames: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score windows of one number of frames in full, see `matching.exact_scores`.

        The best frame is that with the highest weighted mean of the words' cosines.
        """
        words, word_weights = self._words(query)
        frames = _units(frames)
        cosines = np.vecdot(frames[:, :, None], words)  # (W, T, words)
        of_words = np.vecdot(np.ascontiguousarray(cosines.max(axis=1)), word_weights)
        of_frames = np.vecdot(self.frame_scorer.weights(frames), cosines.max(axis=2))
        scores = self.scale * ((of_words + of_frames) / 2)
        return scores.astype(np.float32), np.vecdot(cosines, word_weights).argmax(axis=1)

    def bounds(self, batch: WindowBatch, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the scores lie between, in float32 and not scaled: `(W, Q)` each."""
        starts = window_starts(batch)
        bounds = []
        for query in queries:
            words, word_weights = self._words(query)
            cosines = frame_cosines(batch, words.astype(np.float32))  # (all frames, words)
            of_words = np.maximum.reduceat(cosines, starts, axis=0) @ word_weights.astype(np.float32)
            best_words = cosines.max(axis=1)
            least, most = (reduce.reduceat(best_words, starts) for reduce in (np.minimum, np.maximum))
            bounds.append(((of_words + least) / 2, (of_words + most) / 2))
        lower, upper = zip(*bounds, strict=True)
        return np.stack(lower, axis=1), np.stack(upper, axis=1)

    def direction(self, query: np.ndarray) -> np.ndarray:
        """That of the weighted mean of the words."""
        words, word_weights = self._words(query)
        mean = word_weights @ words
        return mean / np.linalg.norm(mean)

    def _words(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words of a query, of length 1 and without padding, on which nothing may depend; and their weights."""
        words = _units(query[(query != 0).any(axis=1)])
        return words, self.word_scorer.weights(words)


def matching_of(about: About, model: "TS2NetModel") -> Matching:
    """The matching of the model that an index was made with.

    Args:
        about: The index's.
        model: That model.
    """
    if model.word_interaction is None:
        return Matching.of(about)
    networks = model.word_interaction
    return WordMatching(
        None, about.logit_scale, TokenScorer.of(networks.word_scorer), TokenScorer.of(networks.frame_scorer)
    )


def _units(vectors: np.ndarray) -> np.ndarray:
    """Vectors `(..., D)` in float64 and of length 1."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.sqrt(np.vecdot(vectors, vectors)), TINY)[..., None]
