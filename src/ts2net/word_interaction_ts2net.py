"""Word-token interaction (Wang et al. 2022, arXiv 2203.07111): every word of a text is held against every frame.

With `c[w, t]` the cosine of word `w` and frame `t`, and weights `a` of the words and `b` of the frames, which sum to 1
each, a score is `(sum_w a[w] max_t c[w, t] + sum_t b[t] max_w c[w, t]) / 2`. Two small networks give the weights.

Notable here:
- The networks read embeddings brought to one length, where the released code reads them as they are. So a weight can
  be computed from a stored embedding of length 1, and is the same from every source.
- Padding takes part in nothing. In the released code it has the cosine 0, which is the maximum where all others are
  negative.
- A word that is padding is a row of zeros: one tensor says which words there are, in batches and between processes.

Shapes: `Q` texts, `W` words of a text, `B` videos, `T` frames, `D` projection width.
"""

from typing import NamedTuple

import torch
from torch import nn


class TS2NetWordMatches(NamedTuple):
    """Which frame each word has found.

    Args:
        frames (`torch.LongTensor` of shape `(Q, B, W)`): The frame with the highest cosine, from 0.
        cosines (`torch.FloatTensor` of shape `(Q, B, W)`): Its cosine.
        weights (`torch.FloatTensor` of shape `(Q, W)`): Weight of each word, 0 for padding.
    """

    frames: torch.Tensor
    cosines: torch.Tensor
    weights: torch.Tensor


class TS2NetTokenScorer(nn.Module):
    """A logit for each of some tokens, from the direction of its embedding alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, 1, bias=False)  # a softmax over tokens does not feel one

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score tokens `(..., D)` of any length; returns `(...)`, in at least float32."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        # Mixed precision would round what recalls are read from.
        with torch.autocast(tokens.device.type, enabled=False):
            # Components of about 1, whatever the width.
            units = nn.functional.normalize(tokens.to(dtype), dim=-1) * tokens.shape[-1] ** 0.5
            hidden = self.fc1(units.to(self.fc1.weight.dtype)).relu()
            return self.fc2(hidden).squeeze(-1).to(dtype)


class TS2NetWordInteraction(nn.Module):
    """The networks that weigh words and frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.word_scorer = TS2NetTokenScorer(width)
        self.frame_scorer = TS2NetTokenScorer(width)

    def forward(self, words: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score words `(Q, W, D)` and frames `(B, T, D)`; returns logits `(Q, W)` and `(B, T)`."""
        return self.word_scorer(words), self.frame_scorer(frames)


class WordMatching(NamedTuple):
    """Some texts and some videos, ready to be matched.

    Args:
        words: Of length 1, zeros for padding, `(Q, W, D)`.
        frames: Of length 1, `(B, T, D)`.
        frame_mask: Boolean, `(B, T)`: the frames that count.
        word_logits: Of the words' weights, `(Q, W)`.
        frame_logits: Of the frames' weights, `(B, T)`.
    """

    words: torch.Tensor
    frames: torch.Tensor
    frame_mask: torch.Tensor
    word_logits: torch.Tensor
    frame_logits: torch.Tensor

    def texts(self, rows: slice) -> "WordMatching":
        """Some of the texts."""
        return self._replace(words=self.words[rows], word_logits=self.word_logits[rows])

    def videos(self, rows: slice) -> "WordMatching":
        """Some of the videos."""
        return self._replace(
            frames=self.frames[rows], frame_mask=self.frame_mask[rows], frame_logits=self.frame_logits[rows]
        )

    def scores(self) -> torch.Tensor:
        """The scores `(Q, B)`, 0 for a text without words or a video without a frame that counts."""
        of_words, of_frames = self._best()
        word_weights, frame_weights = self.weights()
        scores = torch.einsum("qbw,qw->qb", of_words.values, word_weights)
        scores = scores + torch.einsum("qbt,bt->qb", of_frames.values, frame_weights)
        nothing = ~word_mask(self.words).any(dim=-1)[:, None] | ~self.frame_mask.any(dim=-1)  # (Q, B)
        return scores.masked_fill(nothing, 0.0) / 2

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights of the words `(Q, W)` and of the frames `(B, T)`."""
        return _masked_softmax(self.word_logits, word_mask(self.words)), _masked_softmax(
            self.frame_logits, self.frame_mask
        )

    def weight_of_frames(self) -> torch.Tensor:
        """The part that each frame has in each score, `(Q, B, T)`: half its own weight, half that of its words."""
        word_weights, frame_weights = self.weights()
        best_frames = self._best()[0].indices  # (Q, B, W)
        of_words = torch.zeros_like(frame_weights).expand(self.words.shape[0], -1, -1)  # (Q, B, T)
        of_words = of_words.scatter_add(2, best_frames, word_weights[:, None].expand_as(best_frames))
        return (of_words + frame_weights) / 2

    def word_matches(self) -> TS2NetWordMatches:
        """Which frame each word has found."""
        best = self._best()[0]
        return TS2NetWordMatches(best.indices, best.values, self.weights()[0])

    def best_frames(self) -> torch.Tensor:
        """The frame that fits the words of a text best, `(Q, B)`: by the weighted mean of their cosines."""
        text = torch.einsum("qw,qwd->qd", self.weights()[0], self.words)
        with torch.autocast(text.device.type, enabled=False):
            cosines = torch.einsum("qd,btd->qbt", text, self.frames)
        return cosines.masked_fill(~self.frame_mask, -torch.inf).argmax(dim=-1)

    def _best(self) -> "tuple[torch.return_types.max, torch.return_types.max]":
        """The best frame of each word `(Q, B, W)` and the best word of each frame `(Q, B, T)`, with their cosines."""
        with torch.autocast(self.words.device.type, enabled=False):
            cosines = torch.einsum("qwd,btd->qbwt", self.words, self.frames)
        lowest = torch.finfo(cosines.dtype).min
        of_words = cosines.masked_fill(~self.frame_mask[:, None, :], lowest).max(dim=3)
        of_frames = cosines.masked_fill(~word_mask(self.words)[:, None, :, None], lowest).max(dim=2)
        return of_words, of_frames


def word_mask(words: torch.Tensor) -> torch.Tensor:
    """Which words of `(Q, W, D)` are no padding: boolean, `(Q, W)`."""
    return (words != 0).any(dim=-1)


def _masked_softmax(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Weights that sum to 1 over what the mask leaves; 0 elsewhere, and everywhere if it leaves nothing."""
    weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=-1)
    return weights * mask
