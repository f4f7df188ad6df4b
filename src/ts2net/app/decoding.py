"""Videos decoded by processes of their own, one for each video: a hostile one can harm nothing else."""

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

_PATIENCE = 300.0  # seconds that a video may take
_MAX_PIXELS = 4096 * 2304  # of an upload's frame: whatever is called 4K
_MAX_MEMORY = 4 * 2**30  # bytes, beside the libraries: twice 64 frames in 4K, and what their decoder holds
_ISOLATION = replace(ISOLATION, memory=_MAX_MEMORY)


@dataclass(frozen=True)
class SeenWindow:
    """A window of the index, decoded again.

    Args:
        frames: As the model takes them, uint8 of shape `(T, 3, H, W)`.
        seconds: When each comes on screen.
    """

    frames: np.ndarray
    seconds: list[float]


def clip_inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, torch.Tensor]:
    """Make an upload ready for the model.

    Args:
        path: Where it lies.
        processor: Makes frames as the model takes them.
        limits: What may be taken.

    Returns:
        `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`.

    Raises:
        UploadError: If it is no video, has frames that are too large, is too long, takes too long or too much memory,
            or ends the process that decodes it.
    """
    arrays = _isolated(path, path, _inputs, processor, limits)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def check_video(path: str, processor: TS2NetVideoProcessor, settings: WindowSettings, limits: UploadLimits) -> None:
    """Find out whether an upload can be indexed, by decoding it as it would be.

    Args:
        path: Where it lies.
        processor: Makes frames as the model takes them.
        settings: How the index cuts videos.
        limits: What may be taken.

    Raises:
        UploadError: As in [`clip_inputs`]. One that takes too long is slower than it plays.
    """
    seconds = max(_PATIENCE, limits.seconds)
    _isolated(path, path, _check_windows, processor, settings, limits, seconds=seconds)


def window_frames(file: VideoFile, settings: WindowSettings, processor: TS2NetVideoProcessor) -> SeenWindow:
    """Decode a window of the index once more, to the very frames that were indexed.

    Args:
        file: The video, whose `start` and `end` are the window's.
        settings: How the index cuts videos.
        processor: Makes frames as the model takes them.

    Raises:
        UploadError: If it can't be decoded, takes too long or too much memory, or ends the process that decodes it.
    """
    return _isolated(file.video_id, file.path, _window_frames, file, settings, processor)


def _inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, Any]:
    _check_frame(path, limits)
    inputs = processor([path], clock="seconds")  # as the windows of an index have it
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
    """Check the size of the frames, before any memory is taken for one, and how long a video is."""
    _check_duration(decode_video(path, FrameSampling(num_frames=1), max_pixels=_MAX_PIXELS).info.duration, limits)


def _check_duration(duration: float, limits: UploadLimits) -> None:
    if duration > limits.seconds:
        raise UploadError(f"is too long: {duration:,.0f} seconds, and at most {limits.seconds:,} seconds are taken.")


def _window_frames(_: str, file: VideoFile, settings: WindowSettings, processor: TS2NetVideoProcessor) -> SeenWindow:
    first = next(decode_windows(file, settings, processor))  # what it is cut from is no longer than one window
    if isinstance(first, DecodedWindow):
        return SeenWindow(first.pixels, first.frame_times)
    raise UploadError(f"can't be decoded: {first.reason if isinstance(first, BrokenVideo) else 'it has no frames'}.")


def _isolated(name: str, path: str, read: Callable[..., Any], *args: Any, seconds: float = _PATIENCE) -> Any:
    """Return `read(path, *args)`, called in a process of its own.

    Args:
        name: Name of the video. Visitors are shown its last part.
        path: Path of its file.
        read: Reads the file.
        args: Its other arguments.
        seconds: How long it may take.

    Raises:
        UploadError: If it fails, with a sentence for visitors.
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
    except Exception as error:  # of whatever library reads it
        message = one_line(error).removeprefix(f"{path}: ")
        reason = f"can't be read as a video: {without_folders(message, path)}."
    raise UploadError(f"{name} {reason}")


def _on_one_core(read: Callable[..., Any], path: str, *args: Any) -> Any:
    torch.set_num_threads(1)
    return read(path, *args)
