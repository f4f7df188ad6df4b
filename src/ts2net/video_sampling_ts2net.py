"""Which frames of a video are read: plain arithmetic, apart from how they are decoded.

Notable here: the figures are those of the released TS2-Net, whose second has a whole number of frames.
"""

import math
from collections.abc import Collection

import numpy as np


def sample_frame_indices(
    num_video_frames: int,
    video_fps: float,
    num_frames: int = 12,
    frames_per_second: float = 1.0,
    strategy: str = "uniform",
    start: float | None = None,
    end: float | None = None,
) -> list[int]:
    """Chooses which frames of a video are read.

    As in the released TS2-Net, a second has `int(video_fps)` frames. Candidates are `frames_per_second` frames of
    every second, never closer than neighbouring frames.

    Args:
        num_video_frames: frames in the video.
        video_fps: frames a second of the video.
        num_frames: the most that are taken.
        frames_per_second: candidates a second.
        strategy: which candidates are taken if there are more than `num_frames`: `"uniform"` (spread evenly from the
            first to the last), `"first"` or `"last"`.
        start: seconds, where the moment begins; the video's start if None.
        end: seconds, where it ends, inclusive and clipped to the video; the video's end if None.

    Returns:
        Indices in the order of presentation, at least one.

    Raises:
        ValueError: an argument is out of range, or the video ends before `start`.
    """
    check_sampling(num_frames, frames_per_second, strategy, start, end)
    if num_video_frames < 1:
        raise ValueError(f"num_video_frames must be at least 1, got {num_video_frames}")
    if not (math.isfinite(video_fps) and video_fps > 0):
        raise ValueError(f"video_fps must be a positive number, got {video_fps}")

    second = max(int(video_fps), 1)  # frames
    first = int((start or 0) * second)
    last = num_video_frames - 1
    if first > last:
        raise ValueError(f"start={start} s lies beyond the end of the video ({num_video_frames / video_fps:.3f} s)")
    if end is not None:
        last = min(int(end * second), last)

    def candidate(k: int) -> int:
        return first + max(k, int(k * second / frames_per_second))

    count = min(int((last - first) * frames_per_second / second), last - first) + 2  # at most two too many
    while candidate(count - 1) > last:
        count -= 1
    if count <= num_frames:
        chosen: Collection[int] = range(count)
    elif strategy == "uniform":
        chosen = np.linspace(0, count - 1, num_frames, dtype=int).tolist()
    else:
        chosen = range(num_frames) if strategy == "first" else range(count - num_frames, count)
    return [candidate(k) for k in chosen]


def check_sampling(
    num_frames: int, frames_per_second: float, strategy: str, start: float | None, end: float | None
) -> None:
    """Check what can be checked before anything is known of the video; see `sample_frame_indices`.

    Raises:
        ValueError: an argument is out of range.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise ValueError(f"frames_per_second must be a positive number, got {frames_per_second}")
    if strategy not in ("uniform", "first", "last"):
        raise ValueError(f"strategy must be 'uniform', 'first' or 'last', got {strategy!r}")
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number of seconds, 0 or more, got {value}")
    if end is not None and end < (start or 0):
        raise ValueError(f"end={end} s lies before start={start or 0} s")
