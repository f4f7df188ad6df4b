"""Explanation of a model's scores: the sampled frames of a video, their weights for each text, and the selected and
shifted patches.

The frames are the model's input after resizing and cropping, so an outlined patch is exactly the patch that was
selected. All values come from the model's own forward pass and matching; nothing is estimated afterwards.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..modeling_ts2net import TS2NetModel, TS2NetShift
from ..processing_ts2net import TS2NetProcessor
from ..video_processing_ts2net import TS2NetVideoProcessor
from ..word_interaction_ts2net import word_mask

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class FoundWord:
    """A token of a text and its best-matching frame.

    Args:
        word: The token as text. The first and the last token of a text are its start and its end token.
        weight: Weight of the token. The weights of a text's tokens sum to 1.
        frame: Index of the frame. `None` for a padding frame, which is possible with `padding_mode="released"`.
        cosine: Cosine similarity of the token and the frame.
    """

    word: str
    weight: float
    frame: int | None
    cosine: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of the scores of one video of `T` frames for `Q` texts.

    Args:
        texts: The texts.
        scores: The video's score for each text: the model's `logits_per_text`.
        frames: The sampled frames after resizing and cropping, `(T, H, W, 3)`, uint8 RGB.
        seconds: Time of each frame in seconds from the start of the video.
        weights: Weight of each frame in each score, `(Q, T)`. The weights sum to 1 over the frames. (With
            `padding_mode="released"` and fewer frames than the model takes, padding frames may have some weight.)
        selected_tokens: Indices, `(T, K)`, of the patches of each frame that the temporal encoder reads in addition to
            [CLS]. Patches are numbered row by row from 1. `K` is 0 for a model without selection.
        patch_size: Side of a patch in pixels.
        shifts: Source of the `N` patches of each frame in the shift layers, `(T, N)`: -1 for the frame before, 1 for
            the frame after, 0 for the frame itself. `None` for a model that does not shift whole tokens.
        words: For each text, its tokens with their best-matching frames. `None` without word-token interaction.
    """

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    frames: np.ndarray
    seconds: tuple[float, ...]
    weights: np.ndarray
    selected_tokens: np.ndarray
    patch_size: int
    shifts: np.ndarray | None = None
    words: tuple[tuple[FoundWord, ...], ...] | None = None

    def selected_boxes(self, frame: int) -> list[Box]:
        """Return the boxes of the selected patches of a frame."""
        return patch_boxes(self.selected_tokens[frame].tolist(), self.frames.shape[2], self.patch_size)

    def shifted_boxes(self, frame: int, source: int) -> list[Box]:
        """Return the boxes of a frame's patches that come from the frame before (`source=-1`) or after (`source=1`).

        Raises:
            ValueError: If the model does not shift whole tokens.
        """
        if self.shifts is None:
            raise ValueError("there are no shifted patches: no layer of this model shifts whole tokens")
        tokens = (self.shifts[frame] == source).nonzero()[0] + 1  # [CLS] is 0
        return patch_boxes(tokens.tolist(), self.frames.shape[2], self.patch_size)


def explain(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    video: Any,
    texts: Sequence[str],
    *,
    start: float | None = None,
    end: float | None = None,
) -> Explanation:
    """Score texts against one video, and explain the scores.

    Args:
        model: The model. It is set to evaluation mode, so that the result is deterministic.
        processor: The model's processor.
        video: A video of any type that the processor accepts.
        texts: At least one text.
        start: Start of a moment of the video in seconds, as shown by a player.
        end: End of the moment in seconds, as shown by a player.

    Raises:
        ValueError: If there is no text, the video can't be decoded, or the scores are not finite.
        OSError: If the video can't be opened.
    """
    # `start` and `end` are times of a player or an index, independent of the clock used in training.
    clock = processor.video_processor.clock if start is None and end is None else "seconds"
    inputs = processor.video_processor([video], start=start, end=end, clock=clock, return_metadata=True)
    seconds = inputs.pop("video_metadata")[0].timestamps
    name = os.fspath(video) if isinstance(video, (str, os.PathLike)) else "the video"  # not a video's bytes
    return _explain_inputs(model, processor, inputs, seconds, texts, name)


def explain_frames(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    frames: np.ndarray | torch.Tensor,
    seconds: Sequence[float],
    texts: Sequence[str],
    query_embeds: torch.Tensor | None = None,
) -> Explanation:
    """Explain frames that are already sampled and resized, such as the frames of an index; see [`explain`].

    Args:
        model: The model. It is set to evaluation mode.
        processor: The model's processor, which only rescales and normalises here.
        frames: The frames at the model's input size, `(T, 3, H, W)`, uint8.
        seconds: Time of each frame.
        texts: At least one text.
        query_embeds: Query embeddings `(Q, D)` to score instead of the texts, such as the embedding of a clip. `texts`
            are then the names of the queries.

    Raises:
        ValueError: If there is no text or no frame, `frames` and `seconds` differ in length, or a score is not finite.
    """
    if len(frames) != len(seconds):
        raise ValueError(f"seconds must be one a frame, got {len(seconds)} for {len(frames)} frames")
    inputs = processor.video_processor(
        [frames],
        input_data_format="channels_first",
        do_sample_frames=False,
        do_resize=False,
        do_center_crop=False,
        pad_to="longest",
    )
    return _explain_inputs(model, processor, inputs, seconds, texts, "the video", query_embeds)


def _explain_inputs(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    inputs: Mapping[str, torch.Tensor],
    seconds: Sequence[float],
    texts: Sequence[str],
    name: str,
    query_embeds: torch.Tensor | None = None,
) -> Explanation:
    """Explain a video that the processor has prepared."""
    model.eval()
    pixels, mask = inputs["pixel_values_videos"].to(model.device), inputs["padding_mask_videos"].to(model.device)
    tokens = None
    with torch.inference_mode():
        if query_embeds is None:
            tokens = processor(text=list(texts)).to(model.device)
            query_embeds = model.get_text_features(**tokens).matching_embeds
        elif model.word_interaction is not None:
            query_embeds = query_embeds[:, None]  # (Q, 1, D): each query counts as one word
        video = model.get_video_features(pixels, mask)
        matched = (query_embeds.to(model.device), video.frame_embeds, mask)
        scores = model.similarity(*matched)[:, 0].tolist()
        weights = model.frame_weights(*matched)  # (Q, 1, T with padding)
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"{name}: the model's scores are not finite numbers; try another dtype")
    real = mask[0]  # (T with padding,)
    return Explanation(
        texts=tuple(texts),
        scores=tuple(scores),
        frames=_as_seen(pixels[0, real], processor.video_processor),
        seconds=tuple(seconds),
        weights=weights[:, 0, real].cpu().numpy(),
        selected_tokens=video.selected_token_indices[0, real].cpu().numpy(),
        patch_size=model.config.vision_config.patch_size,
        shifts=_shifts(model, mask),
        words=None
        if tokens is None or model.word_interaction is None
        else _found_words(processor, tokens, model, matched),
    )


def _found_words(
    processor: TS2NetProcessor,
    tokens: Mapping[str, torch.Tensor],
    model: TS2NetModel,
    matched: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[tuple[FoundWord, ...], ...]:
    """Return the words of each text for one video. `matched` are the first arguments of [`TS2NetModel.similarity`]."""
    word_embeds, _, mask = matched
    with torch.inference_mode():
        frames, cosines, weights = model.word_matches(*matched)
    number = {frame: index for index, frame in enumerate(mask[0].nonzero().flatten().tolist())}
    words_per_text = []
    for text, ids in enumerate(tokens["input_ids"].tolist()):
        words = word_mask(word_embeds[text]).nonzero().flatten().tolist()
        words_per_text.append(
            tuple(
                FoundWord(
                    word=processor.tokenizer.decode([ids[word]]).strip(),
                    weight=float(weights[text, word]),
                    frame=number.get(int(frames[text, 0, word])),
                    cosine=float(cosines[text, 0, word]),
                )
                for word in words
            )
        )
    return tuple(words_per_text)


def patch_boxes(tokens: Sequence[int], frame_width: int, patch_size: int) -> list[Box]:
    """Return the boxes of tokens on a frame.

    Args:
        tokens: Indices of patches among the tokens of a frame: [CLS] is 0, and the patches follow row by row.
        frame_width: Width of the model's input frame in pixels.
        patch_size: Side of a patch in pixels.
    """
    columns = frame_width // patch_size
    corners = [((token - 1) % columns * patch_size, (token - 1) // columns * patch_size) for token in tokens]
    return [(left, top, left + patch_size, top + patch_size) for left, top in corners]


def _shifts(model: TS2NetModel, mask: torch.Tensor) -> np.ndarray | None:
    """Compute `Explanation.shifts` of one video with a padding mask of shape `(1, T with padding)`."""
    config = model.config.vision_config
    if config.shift_kind != "token" or not config.shift_layers:
        return None
    # Apply the model's own shift to frame numbers instead of tokens.
    numbers = torch.arange(mask.shape[1], device=mask.device)[None, :, None, None]
    numbers = numbers.expand(1, -1, config.num_patches + 1, 1)  # (1, T with padding, N + 1, 1)
    moved = TS2NetShift(config)(numbers, mask if model.config.padding_mode == "masked" else None)
    return (moved - numbers)[0, mask[0], 1:, 0].cpu().numpy()


def _as_seen(pixels: torch.Tensor, video_processor: TS2NetVideoProcessor) -> np.ndarray:
    """Undo the rescaling and normalisation of pixels `(T, 3, H, W)`; returns uint8 `(T, H, W, 3)`."""
    if video_processor.do_normalize:
        mean, std = (
            torch.tensor(values, device=pixels.device).view(-1, 1, 1)
            for values in (video_processor.image_mean, video_processor.image_std)
        )
        pixels = pixels * std + mean
    if video_processor.do_rescale:
        pixels = pixels / video_processor.rescale_factor
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
