"""Word-token interaction (Wang et al. 2022, arXiv 2203.07111), which compares every word of a text with every frame.

With `c[w, t]` the cosine of word `w` and frame `t`, and weights `a` of the words and `b` of the frames, which sum to 1
each, a score is `(sum_w a[w] max_t c[w, t] + sum_t b[t] max_w c[w, t]) / 2`. Two small networks compute the weights.

Notable here:
- The networks read normalised embeddings, while the released code reads them unnormalised. So the weights can be
  computed from stored normalised embeddings, with the same result.
- Padding is always masked out. In the released code it has the cosine 0, which is the maximum if all other cosines are
  negative.
- A padding word is a row of zeros, so that embeddings need no separate mask, in batches and between processes.

Shapes: `Q` texts, `W` words of a text, `B` videos, `T` frames, `D` projection width.
"""

from typing import NamedTuple

import torch
from torch import nn


class TS2NetWordMatches(NamedTuple):
    """Best frame of each word.

    Args:
        frames (`torch.LongTensor` of shape `(Q, B, W)`): Index of the frame with the highest cosine, from 0.
        cosines (`torch.FloatTensor` of shape `(Q, B, W)`): Cosine of the word and that frame.
        weights (`torch.FloatTensor` of shape `(Q, W)`): Weight of each word, 0 for padding.
    """

    frames: torch.Tensor
    cosines: torch.Tensor
    weights: torch.Tensor


class TS2NetTokenScorer(nn.Module):
    """Network that computes a logit per token, from the direction of its embedding alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, 1, bias=False)  # a softmax over tokens would cancel a bias

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score tokens `(..., D)` of any length; returns `(...)`, in at least float32."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        # Mixed precision would round the scores that recall is computed from.
        with torch.autocast(tokens.device.type, enabled=False):
            # Components of about 1 at any width.
            units = nn.functional.normalize(tokens.to(dtype), dim=-1) * tokens.shape[-1] ** 0.5
            hidden = self.fc1(units.to(self.fc1.weight.dtype)).relu()
            return self.fc2(hidden).squeeze(-1).to(dtype)


class TS2NetWordInteraction(nn.Module):
    """The networks that compute the weights of words and frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.word_scorer = TS2NetTokenScorer(width)
        self.frame_scorer = TS2NetTokenScorer(width)

    def forward(self, words: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score words `(Q, W, D)` and frames `(B, T, D)`; returns logits `(Q, W)` and `(B, T)`."""
        return self.word_scorer(words), self.frame_scorer(frames)


class WordMatching(NamedTuple):
    """Texts and videos that are prepared for matching.

    Args:
        words: Word embeddings of length 1, zeros for padding, `(Q, W, D)`.
        frames: Frame embeddings of length 1, `(B, T, D)`.
        frame_mask: Boolean, `(B, T)`, False for frames that are masked out.
        word_logits: Logits of the words' weights, `(Q, W)`.
        frame_logits: Logits of the frames' weights, `(B, T)`.
    """

    words: torch.Tensor
    frames: torch.Tensor
    frame_mask: torch.Tensor
    word_logits: torch.Tensor
    frame_logits: torch.Tensor

    def texts(self, rows: slice) -> "WordMatching":
        """Select texts, with all videos."""
        return self._replace(words=self.words[rows], word_logits=self.word_logits[rows])

    def videos(self, rows: slice) -> "WordMatching":
        """Select videos, with all texts."""
        return self._replace(
            frames=self.frames[rows], frame_mask=self.frame_mask[rows], frame_logits=self.frame_logits[rows]
        )

    def scores(self) -> torch.Tensor:
        """Compute the scores `(Q, B)`, 0 for a text without words or a video without an unmasked frame."""
        of_words, of_frames = self._best()
        word_weights, frame_weights = self.weights()
        scores = torch.einsum("qbw,qw->qb", of_words.values, word_weights)
        scores = scores + torch.einsum("qbt,bt->qb", of_frames.values, frame_weights)
        nothing = ~word_mask(self.words).any(dim=-1)[:, None] | ~self.frame_mask.any(dim=-1)  # (Q, B)
        return scores.masked_fill(nothing, 0.0) / 2

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the weights of the words `(Q, W)` and of the frames `(B, T)`."""
        return _masked_softmax(self.word_logits, word_mask(self.words)), _masked_softmax(
            self.frame_logits, self.frame_mask
        )

    def weight_of_frames(self) -> torch.Tensor:
        """Compute the weight of each frame in each score, `(Q, B, T)`: half its own plus half its words' weights."""
        word_weights, frame_weights = self.weights()
        best_frames = self._best()[0].indices  # (Q, B, W)
        of_words = torch.zeros_like(frame_weights).expand(self.words.shape[0], -1, -1)  # (Q, B, T)
        of_words = of_words.scatter_add(2, best_frames, word_weights[:, None].expand_as(best_frames))
        return (of_words + frame_weights) / 2

    def word_matches(self) -> TS2NetWordMatches:
        """Find the best frame of each word."""
        best = self._best()[0]
        return TS2NetWordMatches(best.indices, best.values, self.weights()[0])

    def best_frames(self) -> torch.Tensor:
        """Find the best frame for each text, `(Q, B)`: the one with the highest weighted mean of the word cosines."""
        text = torch.einsum("qw,qwd->qd", self.weights()[0], self.words)
        with torch.autocast(text.device.type, enabled=False):
            cosines = torch.einsum("qd,btd->qbt", text, self.frames)
        return cosines.masked_fill(~self.frame_mask, -torch.inf).argmax(dim=-1)

    def _best(self) -> "tuple[torch.return_types.max, torch.return_types.max]":
        """Find the best frame of each word `(Q, B, W)` and the best word of each frame `(Q, B, T)`, with cosines."""
        with torch.autocast(self.words.device.type, enabled=False):
            cosines = torch.einsum("qwd,btd->qbwt", self.words, self.frames)
        lowest = torch.finfo(cosines.dtype).min
        of_words = cosines.masked_fill(~self.frame_mask[:, None, :], lowest).max(dim=3)
        of_frames = cosines.masked_fill(~word_mask(self.words)[:, None, :, None], lowest).max(dim=2)
        return of_words, of_frames


def word_mask(words: torch.Tensor) -> torch.Tensor:
    """Return the mask of the words `(Q, W, D)`: boolean, `(Q, W)`, False for padding."""
    return (words != 0).any(dim=-1)


def _masked_softmax(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute a softmax over the unmasked entries. The weights of masked entries are 0, even if all are masked."""
    weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=-1)
    return weights * mask
