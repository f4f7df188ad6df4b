"""The contrastive loss over the batches of all processes.

- A process computes only its rows (its texts against all videos) and its columns (all texts against its videos) of the
  similarity matrix: `n x P*n` entries each instead of `(P*n)**2`, for `P` processes with `n` pairs each.
- The embeddings of the other processes are gathered with their gradient. Each process differentiates the mean over its
  own rows and columns. The average of these gradients over processes, which DDP and FSDP compute, equals the gradient
  of one process with the whole batch.
- Captions of the same video are not used as negatives of each other, even if they are in different processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import unwrap_model

from ..parallel import distributed
from .selection_loss import selection_logits


@dataclass
class ContrastiveLoss:
    """Loss and retrieval accuracies of a batch.

    Args:
        loss: This process's part of the loss, with gradient: the mean over its texts and videos, plus its part of the
            weighted selection loss. Scalar.
        global_loss: Loss of the whole batch, the same on all processes, without gradient. Scalar.
        text_to_video_accuracy: Share of texts, over all processes, that are nearer to their own video than to any
            other video. A tie counts as a miss. Scalar.
        video_to_text_accuracy: Share of videos that are nearer to their own text than to any other text. Scalar.
        selection_loss: Unweighted selection loss of the whole batch, without gradient. Scalar; `None` if it is not
            used.
    """

    loss: torch.Tensor
    global_loss: torch.Tensor
    text_to_video_accuracy: torch.Tensor
    video_to_text_accuracy: torch.Tensor
    selection_loss: torch.Tensor | None = None


def contrastive_loss_over_processes(
    model: nn.Module,
    text_embeds: torch.Tensor,
    video_embeds: torch.Tensor,
    logit_scale: torch.Tensor,
    padding_mask_videos: torch.Tensor | None = None,
    video_keys: torch.Tensor | None = None,
    selected_tokens: torch.Tensor | None = None,
    selection_weight: float = 0.0,
    word_embeds: torch.Tensor | None = None,
    word_logits: torch.Tensor | None = None,
    frame_logits: torch.Tensor | None = None,
) -> ContrastiveLoss:
    """Compute the symmetric cross-entropy over the pairs of all processes (paper, equation 9), `n` on each process.

    Args:
        model: The TS2-Net whose `similarity` is used, wrapped for training or not. None of its parameters is used.
        text_embeds: Text embeddings of shape `(n, D)`, as in the model's output. Text `i` describes video `i`.
        video_embeds: Frame embeddings of shape `(n, T, D)`, as in the model's output.
        logit_scale: Factor of the cosines, as in the model's output. Scalar.
        padding_mask_videos: True (or 1) for real frames, of shape `(n, T)`. `None`: all are real.
        video_keys: int64 of shape `(n,)`, equal for equal videos. A text and another clip of the same video are left
            out of the denominators. `None`: all videos differ.
        selected_tokens: The selected tokens of each frame, without [CLS], of shape `(n, T, K, D)`. Needed for the
            selection loss, which is the same cross-entropy over [`selection_logits`].
        selection_weight: Weight of the selection loss. With 0 it is not computed.
        word_embeds: With word-token interaction: word embeddings of shape `(n, words, D)`, as in the model's output.
        word_logits: With word-token interaction: the first of the output's `weight_logits`, of shape `(n, words)`.
        frame_logits: With word-token interaction: the second of the output's `weight_logits`, of shape `(n, T)`.

    Returns:
        See [`ContrastiveLoss`].

    Raises:
        ValueError: If shapes do not fit each other, or differ between processes.
    """
    if not selection_weight:
        selected_tokens = None
    elif selected_tokens is None:
        raise ValueError(f"selection_weight={selection_weight} needs selected_tokens")
    _check_shapes(text_embeds, video_embeds, padding_mask_videos, video_keys, selected_tokens, word_embeds)
    similarity = partial(unwrap_model(model).similarity, logit_scale=logit_scale)
    num_pairs, device = len(text_embeds), video_embeds.device
    first = distributed.rank() * num_pairs
    local_pairs = slice(first, first + num_pairs)
    if padding_mask_videos is None:
        padding_mask_videos = torch.ones(video_embeds.shape[:2], dtype=torch.bool, device=device)
    if video_keys is None:
        video_keys = torch.arange(local_pairs.start, local_pairs.stop)

    # One collective for the embeddings and one for the labels: less waiting, and a fixed order of the collectives.
    parts = [text_embeds[:, None], video_embeds]  # (n, 1, D), (n, T, D)
    if selected_tokens is not None:
        parts.append(selected_tokens.flatten(1, 2))  # (n, T * K, D)
    if word_embeds is not None:
        assert word_logits is not None
        assert frame_logits is not None
        logits = torch.cat([word_logits, frame_logits], dim=1)  # (n, W + T)
        # Reshaped to rows of width D; the last row is padded.
        rows = nn.functional.pad(logits, (0, -logits.shape[1] % text_embeds.shape[1]))
        parts += [word_embeds, rows.unflatten(1, (-1, text_embeds.shape[1]))]
    dtype = torch.promote_types(text_embeds.dtype, torch.float32)  # gradients are summed over processes
    embeds = distributed.gather_with_gradient(torch.cat([part.to(dtype) for part in parts], dim=1))
    labels = torch.cat([video_keys[:, None].to(device), padding_mask_videos.to(device, torch.int64)], dim=1)
    labels = distributed.gather(labels)  # (P * n, 1 + T)
    texts, videos, *others = embeds.split([part.shape[1] for part in parts], dim=1)
    texts = texts[:, 0]
    keys, frame_mask = labels[:, 0], labels[:, 1:].bool()
    pairs = torch.arange(local_pairs.start, local_pairs.stop, device=device)
    same_video = (keys[local_pairs, None] == keys).scatter(1, pairs[:, None], False)  # (n, P * n)
    batch = _Batch(len(texts), local_pairs, same_video)

    def logits_of_frames(rows: slice, columns: slice) -> torch.Tensor:
        if word_embeds is None:
            return similarity(texts[rows], videos[columns], frame_mask[columns])
        words, num_words = others[-2], word_embeds.shape[1]
        of_words, of_frames = others[-1].flatten(1)[:, : num_words + frame_mask.shape[1]].tensor_split([num_words], 1)
        weight_logits = (of_words[rows], of_frames[columns])
        return similarity(words[rows], videos[columns], frame_mask[columns], weight_logits=weight_logits)

    loss, *accuracies = batch.loss_and_accuracies(logits_of_frames)
    if selected_tokens is None:
        figures = torch.stack([loss.detach(), *accuracies])
        return ContrastiveLoss(loss, *distributed.mean_over_processes(figures).unbind())
    selected = others[0].unflatten(1, selected_tokens.shape[1:3])  # (P * n, T, K, D)
    selection_loss, *_ = batch.loss_and_accuracies(
        lambda rows, columns: selection_logits(texts[rows], selected[columns], frame_mask[columns])
    )
    loss = loss + selection_weight * selection_loss
    figures = torch.stack([loss.detach(), *accuracies, selection_loss.detach()])
    return ContrastiveLoss(loss, *distributed.mean_over_processes(figures).unbind())


def loss_inputs(outputs: Any, selection_weight: float = 0.0) -> dict[str, torch.Tensor]:
    """Return the arguments of [`contrastive_loss_over_processes`] that come from a model's outputs, by name."""
    inputs = {name: outputs[name] for name in ("text_embeds", "video_embeds", "logit_scale")}
    if selection_weight:
        inputs["selected_tokens"] = outputs.video_model_output.selected_tokens[:, :, 1:]  # without [CLS]
    if outputs.word_embeds is not None:
        inputs["word_embeds"] = outputs.word_embeds
        inputs["word_logits"], inputs["frame_logits"] = outputs.weight_logits
    return inputs


@dataclass
class _Batch:
    """Position of this process's pairs in the batch of all processes.

    Args:
        num_pairs: Number of pairs of all processes, `P * n`.
        local_pairs: The pairs of this process.
        same_video: `(n, P * n)`: pairs to leave out.
    """

    num_pairs: int
    local_pairs: slice
    same_video: torch.Tensor

    def loss_and_accuracies(
        self, similarity: Callable[[slice, slice], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the symmetric cross-entropy of this process's pairs, and the accuracies of their texts and videos.

        Args:
            similarity: Computes the logits of a slice of the texts and a slice of the videos of the batch.
        """
        everything = slice(0, self.num_pairs)
        rows = similarity(self.local_pairs, everything)  # (n, P * n)
        several = self.num_pairs > len(rows)
        columns = similarity(everything, self.local_pairs).t() if several else rows.t()  # (n, P * n)
        text_loss, text_accuracy = self._loss_and_accuracy(rows)
        video_loss, video_accuracy = self._loss_and_accuracy(columns)
        return (text_loss + video_loss) / 2, text_accuracy, video_accuracy

    def _loss_and_accuracy(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the cross-entropy of `(n, P * n)` logits, and the share of rows whose own pair has the top logit."""
        logits = logits.masked_fill(self.same_video, -torch.inf)
        pairs = torch.arange(self.local_pairs.start, self.local_pairs.stop, device=logits.device)
        with torch.no_grad():
            best_other = logits.scatter(1, pairs[:, None], -torch.inf).amax(dim=1)
            accuracy = (logits.gather(1, pairs[:, None])[:, 0] > best_other).to(logits.dtype).mean()
        return nn.functional.cross_entropy(logits, pairs), accuracy


def _check_shapes(
    text_embeds: torch.Tensor,
    video_embeds: torch.Tensor,
    padding_mask_videos: torch.Tensor | None,
    video_keys: torch.Tensor | None,
    selected_tokens: torch.Tensor | None,
    word_embeds: torch.Tensor | None,
) -> None:
    expected = (len(text_embeds), text_embeds.shape[-1])
    if text_embeds.ndim != 2 or video_embeds.ndim != 3 or (video_embeds.shape[0], video_embeds.shape[2]) != expected:
        raise ValueError(
            f"text_embeds must have shape (n, D) and video_embeds (n, T, D), "
            f"got {(*text_embeds.shape,)} and {(*video_embeds.shape,)}"
        )
    for name, tensor, shape in (
        ("padding_mask_videos", padding_mask_videos, video_embeds.shape[:2]),
        ("video_keys", video_keys, video_embeds.shape[:1]),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have shape {(*shape,)}, got {(*tensor.shape,)}")
    if video_keys is not None and video_keys.dtype != torch.int64:
        raise ValueError(f"video_keys must be int64, got {video_keys.dtype}")
    if selected_tokens is not None and (
        selected_tokens.ndim != 4
        or selected_tokens.shape[2] < 1
        or (*selected_tokens.shape[:2], selected_tokens.shape[3]) != video_embeds.shape
    ):
        n, frames, width = video_embeds.shape
        raise ValueError(
            f"selected_tokens must have shape ({n}, {frames}, K, {width}) with K of at least 1, got "
            f"{(*selected_tokens.shape,)}"
        )
    # A collective over different shapes would hang, or silently mix up the batches.
    local_sizes = [*video_embeds.shape, *([] if word_embeds is None else [word_embeds.shape[1]])]
    shapes = distributed.gather(torch.tensor([local_sizes], device=video_embeds.device)).tolist()
    if any(shape != shapes[0] for shape in shapes):
        words = "" if word_embeds is None else ", and as many words"
        raise ValueError(
            f"every process must have as many videos, frames and dimensions{words}, got {shapes} in order of rank: "
            f"drop the last batch of a data set that does not divide by the number of processes"
        )
