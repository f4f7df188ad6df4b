"""Where a model looked: the frames it saw of a video, how much each weighed for a text, and which patches it kept.

Notable here: the frames are what the model was given, after resizing and cropping, so that an outlined patch is the
patch it chose. Every number comes from the model's own forward pass and matching; nothing is estimated afterwards.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from .modeling_ts2net import TS2NetModel
from .processing_ts2net import TS2NetProcessor
from .video_processing_ts2net import TS2NetVideoProcessor

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the last two are just outside."""

_OUTLINE, _SHADOW = (255, 214, 0), (0, 0, 0)  # one of them stands out from any picture
_BAR, _TRACK = (240, 120, 30), (128, 128, 128)  # legible on dark and on light
_BAR_HEIGHT = 8  # pixels


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model saw of one video of `T` frames, for `Q` texts.

    Args:
        texts: The texts.
        scores: What the video scores for each: the model's `logits_per_text`.
        frames: The sampled frames as the model saw them, `(T, H, W, 3)`, uint8 RGB.
        seconds: When each is shown, from the start of the video.
        weights: How much each frame weighs in each score, `(Q, T)`. They sum to 1 over the frames. (With
            `padding_mode="released"` and fewer frames than the model's, padding frames may have a part of it.)
        selected_tokens: The patches of each frame that went on to the temporal encoder beside [CLS], `(T, K)`, counted
            from 1 along the rows. `K` is 0 for a model without selection.
        patch_size: Side of a patch in pixels.
    """

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    frames: np.ndarray
    seconds: tuple[float, ...]
    weights: np.ndarray
    selected_tokens: np.ndarray
    patch_size: int

    def selected_boxes(self, frame: int) -> list[Box]:
        """Where the selected patches of a frame are."""
        return patch_boxes(self.selected_tokens[frame].tolist(), self.frames.shape[2], self.patch_size)


def explain(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    video: Any,
    texts: Sequence[str],
    *,
    start: float | None = None,
    end: float | None = None,
) -> Explanation:
    """Score texts against one video, and keep what the scores are made of.

    Args:
        model: The model. It is put into evaluation mode, in which nothing is random.
        processor: Its processor.
        video: A video of any kind that the processor takes.
        texts: At least one.
        start: Seconds at which a moment of the video begins.
        end: Seconds at which it ends.

    Raises:
        ValueError: If there is no text, the video can't be decoded, or the scores are not finite.
        OSError: If the video can't be opened.
    """
    model.eval()
    tokens = processor(text=list(texts)).to(model.device)
    inputs = processor.video_processor([video], start=start, end=end, return_metadata=True)
    seconds = inputs.pop("video_metadata")[0].timestamps
    pixels, mask = inputs["pixel_values_videos"].to(model.device), inputs["padding_mask_videos"].to(model.device)
    with torch.inference_mode():
        outputs = model(**tokens, pixel_values_videos=pixels, padding_mask_videos=mask, output_frame_weights=True)
    scores = outputs.logits_per_text[:, 0].tolist()
    if not all(map(math.isfinite, scores)):
        name = video if isinstance(video, (str, os.PathLike)) else "the video"  # which may be megabytes
        raise ValueError(f"{name}: the model's scores are not finite numbers; try another dtype")
    real = mask[0]  # (T with padding,)
    return Explanation(
        texts=tuple(texts),
        scores=tuple(scores),
        frames=_as_seen(pixels[0, real], processor.video_processor),
        seconds=tuple(seconds),
        weights=outputs.frame_weights[:, 0, real].cpu().numpy(),
        selected_tokens=outputs.selected_token_indices[0, real].cpu().numpy(),
        patch_size=model.config.vision_config.patch_size,
    )


def patch_boxes(tokens: Sequence[int], frame_width: int, patch_size: int) -> list[Box]:
    """Where tokens are on a frame.

    Args:
        tokens: Places of patches in a frame's tokens: [CLS] is 0, and patches follow row by row.
        frame_width: Of the frame that the model sees, in pixels.
        patch_size: Side of a patch in pixels.
    """
    columns = frame_width // patch_size
    corners = [((token - 1) % columns * patch_size, (token - 1) // columns * patch_size) for token in tokens]
    return [(left, top, left + patch_size, top + patch_size) for left, top in corners]


def draw_frame(explanation: Explanation, frame: int, text: int = 0, min_side: int = 160) -> Image.Image:
    """Draw a frame with its selected patches outlined, and below it a bar for its weight.

    Args:
        explanation: Of the video.
        frame: Place of the frame, from 0.
        text: Place of the text whose weights are drawn.
        min_side: Smaller frames are magnified, by a whole number, until their shorter side has so many pixels.

    Returns:
        The picture. The bar's length is the weight over that of the video's weightiest frame.
    """
    picture = Image.fromarray(explanation.frames[frame])
    scale = max(1, math.ceil(min_side / min(picture.size)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for box in explanation.selected_boxes(frame):
        left, top, right, bottom = (edge * scale for edge in box)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_SHADOW, width=4)
        draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=_OUTLINE, width=2)

    weights = explanation.weights[text]
    length = round(picture.width * float(weights[frame] / weights.max()))
    drawn = Image.new("RGB", (picture.width, picture.height + _BAR_HEIGHT), _TRACK)
    drawn.paste(picture)
    drawn.paste(_BAR, (0, picture.height, length, drawn.height))
    return drawn


def _as_seen(pixels: torch.Tensor, video_processor: TS2NetVideoProcessor) -> np.ndarray:
    """Undo the scaling and normalisation of pixels `(T, 3, H, W)`: uint8 `(T, H, W, 3)`."""
    if video_processor.do_normalize:
        mean, std = (
            torch.tensor(values, device=pixels.device).view(-1, 1, 1)
            for values in (video_processor.image_mean, video_processor.image_std)
        )
        pixels = pixels * std + mean
    if video_processor.do_rescale:
        pixels = pixels / video_processor.rescale_factor
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
