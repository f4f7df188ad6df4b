"""Word-token interaction in an index: exact scores and bounds from the frames alone.

With the weights `a` of the words, the weights `b` of the frames and the cosines `c`, a score is the mean of
`sum_w a[w] max_t c[w, t]` and `sum_t b[t] max_w c[w, t]`. The first term needs no weights of frames. The second is a
weighted mean of each frame's best cosine, so it lies between the least and the greatest of these for any weights. So
both bounds come from one matrix product, and the network that weighs frames, which costs more than all else, runs only
for windows that may be among the best.

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
    """One of the two networks that weigh tokens, in float64, with each sum in a fixed order.

    Args:
        hidden: Weights of the first layer, `(D, D)`.
        bias: Bias of the first layer, `(D,)`.
        out: Weights of the second layer, `(D,)`.
    """

    hidden: np.ndarray
    bias: np.ndarray
    out: np.ndarray

    @classmethod
    def of(cls, scorer: "torch.nn.Module") -> "TokenScorer":
        """Copy a network of the model."""
        state = {name: value.detach().cpu().double().numpy() for name, value in scorer.state_dict().items()}
        return cls(state["fc1.weight"], state["fc1.bias"], state["fc2.weight"][0])

    def weights(self, units: np.ndarray) -> np.ndarray:
        """Return the weights `(..., n)` of normalised tokens `(..., n, D)`."""
        scaled = units * units.shape[-1] ** 0.5
        hidden = np.maximum(np.vecdot(scaled[..., None, :], self.hidden) + self.bias, 0)  # (..., n, D)
        logits = np.vecdot(hidden, self.out)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class WordMatching(Matching):
    """Matching of a text with frames by word-token interaction. A query is `(words, D)`, with zeros as padding.

    Args:
        word_scorer: Network that weighs words.
        frame_scorer: Network that weighs frames.
    """

    word_scorer: TokenScorer
    frame_scorer: TokenScorer

    def scores(self, frames: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score windows that have the same number of frames in full, see `matching.exact_scores`.

        The best frame has the highest weighted mean of the words' cosines.
        """
        words, word_weights = self._words(query)
        frames = _units(frames)
        cosines = np.vecdot(frames[:, :, None], words)  # (W, T, words)
        of_words = np.vecdot(np.ascontiguousarray(cosines.max(axis=1)), word_weights)
        of_frames = np.vecdot(self.frame_scorer.weights(frames), cosines.max(axis=2))
        scores = self.scale * ((of_words + of_frames) / 2)
        return scores.astype(np.float32), np.vecdot(cosines, word_weights).argmax(axis=1)

    def bounds(self, batch: WindowBatch, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bounds of the scores, in float32 and not scaled: `(W, Q)` each."""
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
        """Return the normalised weighted mean of the words, `(D,)`."""
        words, word_weights = self._words(query)
        mean = word_weights @ words
        return mean / np.linalg.norm(mean)

    def _words(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the normalised words of a query and their weights. Padding is removed so that it has no effect."""
        words = _units(query[(query != 0).any(axis=1)])
        return words, self.word_scorer.weights(words)


def matching_of(about: About, model: "TS2NetModel") -> Matching:
    """Return the matching of the model that an index was made with.

    Args:
        about: What the index was made with.
        model: The model.
    """
    if model.word_interaction is None:
        return Matching.of(about)
    networks = model.word_interaction
    return WordMatching(
        None, about.logit_scale, TokenScorer.of(networks.word_scorer), TokenScorer.of(networks.frame_scorer)
    )


def _units(vectors: np.ndarray) -> np.ndarray:
    """Convert vectors `(..., D)` to float64 and normalise them."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.sqrt(np.vecdot(vectors, vectors)), TINY)[..., None]
