"""A few texts against videos, one video at a time."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from .modeling_ts2net import TS2NetModel
from .processing_ts2net import TS2NetProcessor


@dataclass(frozen=True)
class TextScores:
    """What one video scores.

    Args:
        scores: One a text.
        seconds: For each text, the second of the video that it fits best.
    """

    scores: list[float]
    seconds: list[float]


class Scorer:
    """A loaded model with a few encoded texts, to hold against one video after another.

    Args:
        model: The model.
        processor: Its processor.
        texts: The texts.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor, texts: list[str]) -> None:
        self.model = model.eval()
        self.processor = processor
        with torch.no_grad():
            self.text_embeds = model.get_text_features(**processor(text=texts).to(model.device)).pooler_output

    @torch.no_grad()
    def score(self, video: Any) -> TextScores:
        """Score every text against one video, of any kind that the processor takes.

        Raises:
            ValueError: If the video can't be decoded, or the model gives something that is no number.
            OSError: If the video can't be opened.
        """
        inputs = self.processor(videos=[video], return_metadata=True)
        frame_times = inputs.pop("video_metadata")[0].timestamps
        inputs = inputs.to(self.model.device)
        frames = self.model.get_video_features(**inputs).pooler_output  # (1, T, D)
        embeds = (self.text_embeds, frames, inputs["padding_mask_videos"])
        scores = self.model.similarity(*embeds)[:, 0].tolist()
        if not all(map(math.isfinite, scores)):
            raise ValueError(f"{video}: the model's scores are not finite numbers; try another dtype")
        best_frames = self.model.frame_cosines(*embeds)[:, 0].argmax(dim=-1).tolist()
        return TextScores(scores, [frame_times[frame] for frame in best_frames])
