"""Encoding of decoded windows to the frame embeddings that an index stores."""

from collections.abc import Sequence

import numpy as np
import torch

from ..encoding.videos import VideoEncoder
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .decoded import DecodedWindow


class WindowEncoder:
    """Encoder of windows, with a model and its processor.

    Windows are not padded, so their embeddings depend neither on other windows nor on the model's padding mode.

    Args:
        model: The model, in evaluation mode, on its device.
        processor: The model's processor.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor) -> None:
        self.model = model
        self.processor = processor
        self._videos = VideoEncoder(model, processor)

    def encode(self, windows: Sequence[DecodedWindow]) -> list[np.ndarray]:
        """Encode windows of any lengths.

        Returns:
            Normalised frame embeddings of each window, float16 of shape `(T, D)`. Values that are not finite in the
            output of the model are not finite here either.
        """
        embeds = self._videos.encode(windows)
        return [torch.nn.functional.normalize(frames.float(), dim=-1).half().cpu().numpy() for frames in embeds]
