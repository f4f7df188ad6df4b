"""What decoding gives, apart from what decodes: whoever only hands it on need not import PyTorch for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..videos.broken import BrokenVideo


@dataclass(frozen=True)
class DecodedWindow:
    """A window of a video, decoded.

    Args:
        video_id: Id of the video.
        number: Number of the window, from 0, not counting those that are left out.
        start: Second at which it starts.
        end: Second at which it ends.
        frame_times: Seconds at which its `T` frames come on screen.
        frame_numbers: Number of each frame in the video, in order of presentation.
        pixels: uint8 of shape `(T, 3, H, W)`, at the model's size.
        thumbnail: The frame in the middle, a JPEG.
        video_seconds: Seconds that the whole video lasts.
    """

    video_id: str
    number: int
    start: float
    end: float
    frame_times: list[float]
    frame_numbers: list[int]
    pixels: np.ndarray
    thumbnail: bytes
    video_seconds: float


@dataclass(frozen=True)
class EndOfVideo:
    """Follows the last window of a video.

    Args:
        video_id: Id of the video.
        signature: Signature of its file.
        duration: Its seconds.
        metadata: Its metadata.
        num_windows: Number of its windows, not counting those that are left out.
        damage: What can't be read of it; `None` if all can.
    """

    video_id: str
    signature: str
    duration: float
    metadata: Mapping[str, str]
    num_windows: int
    damage: str | None


Decoded = DecodedWindow | EndOfVideo | BrokenVideo
