"""Videos decoded side by side, each worker a process of its own with one video at a time."""

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
"""Processes that have imported all that decoding needs."""

_PATIENCE = 120.0  # seconds that may pass without a window, and for each byte of the file as long as this takes:
_SLOWEST = 2e5  # bytes a second of a film of few bits that must be decoded as a whole before its first window


def decode_all(
    files: Iterable[VideoFile], decode: Decode, workers: int, stop: threading.Event
) -> Generator[Decoded, None, None]:
    """Decode videos side by side.

    Args:
        files: The videos. One is taken when a worker is free for it.
        decode: Decodes one.
        workers: Number of processes, at least 1.
        stop: Set it to end early.

    Yields:
        The windows of each video in order, and then its end or that it is broken; those of several videos mixed. A
        video whose process crashed begins again from its first window, once. A video of which nothing comes for two
        minutes, and five more for each 60 MB, is broken.

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
