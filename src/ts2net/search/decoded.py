"""Results of decoding, in a module of their own, so that a process can pass them on without importing PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..videos.broken import BrokenVideo


@dataclass(frozen=True)
class DecodedWindow:
    """A window of a video, decoded.

    Args:
        video_id: Id of the video.
        number: Number of the window in the video, from 0. Windows that are left out are not counted.
        start: Second at which it starts.
        end: Second at which it ends.
        frame_times: Seconds at which its `T` frames come on screen.
        frame_numbers: Number of each frame in the video, in order of presentation.
        pixels: uint8 of shape `(T, 3, H, W)`, at the model's size.
        thumbnail: The middle frame as a JPEG.
        video_seconds: Duration of the whole video in seconds.
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
    """End of a video, after its last window.

    Args:
        video_id: Id of the video.
        signature: Signature of its file.
        duration: Duration of the video in seconds.
        metadata: Metadata of the video.
        num_windows: Number of its windows, without windows that are left out.
        damage: Description of what can't be read; `None` if everything can.
    """

    video_id: str
    signature: str
    duration: float
    metadata: Mapping[str, str]
    num_windows: int
    damage: str | None


Decoded = DecodedWindow | EndOfVideo | BrokenVideo
