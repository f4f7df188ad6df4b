"""Decoded windows in, frame embeddings out, as they are stored.

Notable here: a batch holds windows of one number of frames only, whatever videos they are of. So nothing is ever
padded, and what a window is encoded to depends neither on its neighbours nor on how the model treats padding.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .streaming import DecodedWindow


class WindowEncoder:
    """A model, ready to encode windows.

    Args:
        model: The model, in evaluation mode, where it is to compute.
        processor: Its processor.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor) -> None:
        self.model = model
        self.processor = processor

    @torch.inference_mode()
    def encode(self, windows: Sequence[DecodedWindow]) -> list[np.ndarray]:
        """Encode windows that have `T` frames each.

        Returns:
            For each window its frame embeddings, of length 1: float16 of shape `(T, D)`. They are not finite where
            the model's are not.

        Raises:
            ValueError: If the windows differ in their number of frames.
        """
        lengths = {len(window.pixels) for window in windows}
        if len(lengths) > 1:
            raise ValueError(f"windows of {' and '.join(map(str, sorted(lengths)))} frames can't be encoded together")
        inputs = self.processor.video_processor(
            [torch.from_numpy(window.pixels) for window in windows],
            device=self.model.device,
            input_data_format="channels_first",
            do_sample_frames=False,
            do_resize=False,
            do_center_crop=False,
            pad_to="longest",
        )
        pixels = inputs["pixel_values_videos"].to(self.model.device, self.model.dtype)
        frames = self.model.get_video_features(pixels).pooler_output  # (windows, T, D)
        unit = torch.nn.functional.normalize(frames.float(), dim=-1)
        return list(unit.to(torch.float16).cpu().numpy())
