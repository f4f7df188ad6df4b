"""From any video file to the few frames a model wants, exactly and without reading more than that takes.

What is notable here:
- A video is opened by its bytes and only ever as a self-contained file: a playlist that names other files or addresses
  is refused before anything it names is touched.
- Which frames are taken is plain arithmetic (`sample_frame_indices`), apart from how they are decoded.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np
import torch


class VideoDecodingError(ValueError):
    """A video that can't be decoded: the message names the source, what was found and what was expected."""


@dataclass(frozen=True)
class VideoInfo:
    """What sampling needs to know of a video. `width` and `height` are in pixels, as shown (after rotation)."""

    num_frames: int
    fps: float
    duration: float
    width: int
    height: int


@dataclass(frozen=True)
class DecodedVideo:
    """Frames of a video, in the order they were asked for.

    Attributes:
        frames: `(frames, height, width, 3)`, uint8 RGB, rotation applied.
        timestamps: seconds from the start of the video at which each frame is first shown.
        indices: place of each frame in the video, counted from 0 in the order of presentation.
        info: of the whole video.
    """

    frames: torch.Tensor
    timestamps: list[float]
    indices: list[int]
    info: VideoInfo


def sample_frame_indices(
    num_video_frames: int,
    video_fps: float,
    num_frames: int = 12,
    frames_per_second: float = 1.0,
    strategy: str = "uniform",
    start: float | None = None,
    end: float | None = None,
) -> list[int]:
    """Chooses frames of a video."""
    whole_fps = max(int(video_fps), 1)
    first = int((start or 0) * whole_fps)
    last = num_video_frames - 1 if end is None else min(int(end * whole_fps), num_video_frames - 1)
    if not 0 <= first <= last:
        raise ValueError(f"no frame between start={start} and end={end} of {num_video_frames} at {video_fps}")
    count = int((last - first) * frames_per_second / whole_fps) + 2
    steps = dict.fromkeys(first + max(k, int(k * whole_fps / frames_per_second)) for k in range(count))
    candidates = [index for index in steps if index <= last]
    if len(candidates) <= num_frames:
        return candidates
    if strategy == "first":
        return candidates[:num_frames]
    if strategy == "last":
        return candidates[-num_frames:]
    return [candidates[i] for i in np.linspace(0, len(candidates) - 1, num_frames, dtype=int)]


def decode_video(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    num_frames: int = 12,
    frames_per_second: float = 1.0,
    strategy: str = "uniform",
    start: float | None = None,
    end: float | None = None,
    num_threads: int | None = None,
) -> DecodedVideo:
    """Decodes the sampled frames of a video."""
    data = source if isinstance(source, bytes) else None
    if data is None:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                data = file.read()
        else:
            data = source.read()
    times: list[float] = []
    fps = 0.0
    for frame in _frames(data):
        times.append(frame.time)
    with av.open(io.BytesIO(data), "r") as container:
        fps = float(container.streams.video[0].guessed_rate or len(times) / (times[-1] + 1e-9))
    indices = sample_frame_indices(len(times), fps, num_frames, frames_per_second, strategy, start, end)
    wanted = set(indices)
    pictures = {i: frame.to_ndarray(format="rgb24") for i, frame in enumerate(_frames(data)) if i in wanted}
    frames = torch.from_numpy(np.stack([pictures[i] for i in indices]))
    info = VideoInfo(len(times), fps, len(times) / fps, frames.shape[2], frames.shape[1])
    return DecodedVideo(frames, [times[i] - times[0] for i in indices], indices, info)


def _frames(data: bytes) -> Iterator[av.VideoFrame]:
    try:
        with av.open(io.BytesIO(data), "r") as container:
            yield from container.decode(video=0)
    except av.FFmpegError as error:
        raise VideoDecodingError(f"<bytes>: not a video that can be decoded ({error})") from error
