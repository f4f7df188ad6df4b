"""Decode videos in parallel, in worker processes that each decode one video at a time."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial

from ..errors import one_line
from ..parallel.isolated import CrashError, Failure, Isolation, TimeLimitError
from ..videos.broken import BrokenVideo
from .decoded import Decoded
from .sources import VideoFile

Decode = Callable[[VideoFile], Iterator[Decoded]]
"""`decode_windows` with all its arguments but the video, picklable."""

ISOLATION = Isolation(preload=(f"{__package__}.streaming",))
"""Worker processes that have imported the modules for decoding."""

_PATIENCE = 120.0  # seconds without a window until a video is given up, besides its size / _SLOWEST
_SLOWEST = 2e5  # bytes per second: a film of low bitrate may have to be decoded as a whole before its first window


def decode_all(
    files: Iterable[VideoFile], decode: Decode, workers: int, stop: threading.Event
) -> Generator[Decoded, None, None]:
    """Decode videos in parallel.

    Args:
        files: The videos. The next one is taken when a worker is free.
        decode: Decodes a video.
        workers: Number of processes, at least 1.
        stop: Event that ends decoding early when it is set.

    Yields:
        The windows of each video in order, then [`EndOfVideo`] or [`BrokenVideo`]. Items of several videos are
        interleaved. If the process of a video crashes, the video is decoded once more from its first window. A video
        is broken if nothing arrives for two minutes, plus five minutes for each 60 MB of its file.

    Raises:
        RuntimeError: If no worker can be started.
    """
    results = ISOLATION.run_each(
        files, partial(_decode_on_one_core, decode), workers=workers, patience=_patience, stop=stop
    )
    with closing(results):
        for file, result in results:
            yield BrokenVideo(file.video_id, _reason(result)) if isinstance(result, Failure) else result


def _patience(file: VideoFile) -> float:
    return _PATIENCE + file.size / _SLOWEST


def _reason(failure: Failure) -> str:
    if isinstance(failure.error, CrashError):
        return "the process that decoded it crashed, twice"
    if isinstance(failure.error, TimeLimitError):
        return f"nothing came of it for {failure.error.seconds:,.0f} s"
    return one_line(failure.error)


def _decode_on_one_core(decode: Decode, file: VideoFile) -> Iterator[Decoded]:
    import torch

    torch.set_num_threads(1)
    return decode(file)
