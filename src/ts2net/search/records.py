"""What an engine hands over and the store keeps. No library of either is needed to speak of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IndexedWindow:
    """A window as it is stored.

    Args:
        start: Seconds, for the next two as well.
        end: Where it ends.
        frame_times: Of each of its `T` frames.
        frames: Frame embeddings of length 1, float16 of shape `(T, D)`.
        thumbnail: A small JPEG.
    """

    start: float
    end: float
    frame_times: Sequence[float]
    frames: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class IndexedVideo:
    """A video with all its windows.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Changes when the file does.
        duration: Seconds.
        metadata: What else is known of it.
        windows: In order.
    """

    video_id: str
    signature: str
    duration: float
    metadata: Mapping[str, str]
    windows: Sequence[IndexedWindow]
