"""Decoded windows to frame embeddings, as an index stores them."""

from collections.abc import Sequence

import numpy as np
import torch

from ..encoding.videos import VideoEncoder
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .decoded import DecodedWindow


class WindowEncoder:
    """A model and its processor, ready to encode windows.

    No window is padded: what it is encoded to depends neither on other windows nor on how the model treats padding.

    Args:
        model: The model, in evaluation mode, on its device.
        processor: Its processor.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor) -> None:
        self.model = model
        self.processor = processor
        self._videos = VideoEncoder(model, processor)

    def encode(self, windows: Sequence[DecodedWindow]) -> list[np.ndarray]:
        """Encode windows of any lengths.

        Returns:
            For each window its frame embeddings, of length 1: float16 of shape `(T, D)`. They are not finite where
            the model's are not.
        """
        embeds = self._videos.encode(windows)
        return [torch.nn.functional.normalize(frames.float(), dim=-1).half().cpu().numpy() for frames in embeds]
