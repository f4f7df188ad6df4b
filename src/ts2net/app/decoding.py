"""Decoding of videos in separate processes, one per video, so that a malicious video can't harm anything else."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import one_line
from ..parallel.isolated import CrashError, TimeLimitError
from ..parallel.pool import available_cores
from ..search import WindowSettings
from ..search.decoded import DecodedWindow
from ..search.decoding_workers import ISOLATION
from ..search.sources import VideoFile
from ..search.streaming import decode_windows
from ..video_decoding_ts2net import decode_video
from ..video_processing_ts2net import TS2NetVideoProcessor
from ..video_sampling_ts2net import FrameSampling
from ..videos.broken import BrokenVideo
from .uploads import UploadError, UploadLimits, without_folders

_PATIENCE = 300.0  # maximum seconds to decode a video
_MAX_PIXELS = 4096 * 2304  # maximum pixels of a frame of an upload; any 4K format fits
_MAX_MEMORY = 4 * 2**30  # bytes besides the libraries: two copies of 64 frames in 4K, and the decoder's memory
_ISOLATION = replace(ISOLATION, memory=_MAX_MEMORY)


@dataclass(frozen=True)
class SeenWindow:
    """A window of the index, decoded again.

    Args:
        frames: Frames for the model, uint8 of shape `(T, 3, H, W)`.
        seconds: Second at which each frame comes on screen.
    """

    frames: np.ndarray
    seconds: list[float]


def clip_inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, torch.Tensor]:
    """Decode and preprocess an upload for the model.

    Args:
        path: Path of the upload.
        processor: Preprocesses frames for the model.
        limits: Limits of uploads.

    Returns:
        `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`.

    Raises:
        UploadError: If the upload is no video, has too large frames, is too long, takes too much time or memory, or
            crashes the process that decodes it.
    """
    arrays = _isolated(path, path, _inputs, processor, limits)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def check_video(path: str, processor: TS2NetVideoProcessor, settings: WindowSettings, limits: UploadLimits) -> None:
    """Check that an upload can be indexed, by decoding it as indexing does.

    Args:
        path: Path of the upload.
        processor: Preprocesses frames for the model.
        settings: Window settings of the index.
        limits: Limits of uploads.

    Raises:
        UploadError: Same as in [`clip_inputs`], with a time limit of at least the maximum duration of an upload.
    """
    seconds = max(_PATIENCE, limits.seconds)
    _isolated(path, path, _check_windows, processor, settings, limits, seconds=seconds)


def window_frames(file: VideoFile, settings: WindowSettings, processor: TS2NetVideoProcessor) -> SeenWindow:
    """Decode exactly the frames that were indexed for a window.

    Args:
        file: The video, with the `start` and `end` of the window.
        settings: Window settings of the index.
        processor: Preprocesses frames for the model.

    Raises:
        UploadError: If the video can't be decoded, takes too much time or memory, or crashes the decoding process.
    """
    return _isolated(file.video_id, file.path, _window_frames, file, settings, processor)


def _inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, Any]:
    _check_frame(path, limits)
    inputs = processor([path], clock="seconds")  # the clock of indexed windows
    return {name: inputs[name].numpy() for name in ("pixel_values_videos", "padding_mask_videos")}


def _check_windows(path: str, processor: TS2NetVideoProcessor, settings: WindowSettings, limits: UploadLimits) -> None:
    _check_frame(path, limits)
    file = VideoFile(path, "", path, 0, os.path.getsize(path))
    for decoded in decode_windows(file, settings, processor, num_threads=available_cores()):
        if isinstance(decoded, BrokenVideo):
            raise UploadError(f"can't be used: {decoded.reason}.")
        if isinstance(decoded, DecodedWindow):
            _check_duration(decoded.video_seconds, limits)


def _check_frame(path: str, limits: UploadLimits) -> None:
    """Check the duration of a video and the size of its frames, before memory is allocated for a frame."""
    _check_duration(decode_video(path, FrameSampling(num_frames=1), max_pixels=_MAX_PIXELS).info.duration, limits)


def _check_duration(duration: float, limits: UploadLimits) -> None:
    if duration > limits.seconds:
        raise UploadError(f"is too long: {duration:,.0f} seconds, and at most {limits.seconds:,} seconds are taken.")


def _window_frames(_: str, file: VideoFile, settings: WindowSettings, processor: TS2NetVideoProcessor) -> SeenWindow:
    first = next(decode_windows(file, settings, processor))  # `file` is no longer than one window
    if isinstance(first, DecodedWindow):
        return SeenWindow(first.pixels, first.frame_times)
    raise UploadError(f"can't be decoded: {first.reason if isinstance(first, BrokenVideo) else 'it has no frames'}.")


def _isolated(name: str, path: str, read: Callable[..., Any], *args: Any, seconds: float = _PATIENCE) -> Any:
    """Call `read(path, *args)` in a separate process, and return the result.

    Args:
        name: Name of the video. Visitors see only the last part of it.
        path: Path of the file.
        read: Function that reads the file.
        args: Further arguments of `read`.
        seconds: Time limit in seconds.

    Raises:
        UploadError: If the call fails, with a message for visitors.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    try:
        return _ISOLATION.run(_on_one_core, read, path, *args, seconds=seconds)
    except UploadError as error:
        reason = str(error)
    except TimeLimitError:
        reason = f"takes too long to decode: more than {seconds:,.0f} seconds."
    except CrashError:
        reason = "can't be read as a video: the process that decoded it crashed."
    except MemoryError:
        reason = f"takes too much memory to decode: more than {_MAX_MEMORY / 2**30:g} GiB."
    except Exception as error:  # from any library that reads the file
        message = one_line(error).removeprefix(f"{path}: ")
        reason = f"can't be read as a video: {without_folders(message, path)}."
    raise UploadError(f"{name} {reason}")


def _on_one_core(read: Callable[..., Any], path: str, *args: Any) -> Any:
    torch.set_num_threads(1)
    return read(path, *args)
