"""The truth about a file: a plain PyAV loop that decodes everything in order and reads the times by itself."""

import contextlib
import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition

_ROUNDING = Fraction(1, 1_000_000)  # seconds; below what any container can tell


class UnreadableError(Exception):
    """A file of which FFmpeg decodes nothing."""


@dataclass(frozen=True)
class Case:
    """A file, and what its maker knows better than a loop that reads it.

    Args:
        path: The file.
        times: Seconds from the file's start of each frame, where the container does not say them (well).
        end: Seconds from the file's start at which the last frame leaves the screen, if its maker knows.
        damaged: Whether something can't be read of it; None where that can't be known from the file.
        rotation: Degrees counter-clockwise by which it is turned to be shown.
        hflip: Whether it is mirrored after that.
        aspect: Of a pixel, if the file does not say it.
        size: Width and height of the frames as stored that all are brought to, where sizes change.
        margin: Seconds by which times may be others, where the file leaves that open.
        timed: Whether the times of the file mean anything.
        refused: A part of the message with which it is refused, if it can't be read.
    """

    path: Path
    times: Sequence[float] | None = None
    end: float | None = None
    damaged: bool | None = False
    rotation: int = 0
    hflip: bool = False
    aspect: Fraction | None = None
    size: tuple[int, int] | None = None
    margin: float = 2e-6
    timed: bool = True
    refused: str | None = None


@dataclass(frozen=True)
class Truth:
    """What a file shows.

    Args:
        times: Seconds from the file's start at which each frame comes on screen, in the order of presentation.
        timed: Whether that is so. Not where the file gives no times, or gives them in another order. A decoder gives a
            damaged frame late, and whether its time or its place is right can't be told from outside.
        end: When the last one leaves it.
        pictures: Each frame `(height, width, 3)` uint8 RGB as shown, but with the pixels as they are stored.
        aspect: Of a pixel as shown.
        margin: Seconds by which times may be others.
        end_tolerance: Seconds by which `end` may be another to another reader: the file does not say more.
        unsettled: Frames of which a decoder leaves a part as it was in memory.
    """

    times: list[Fraction]
    timed: bool
    end: Fraction
    pictures: list[np.ndarray]
    aspect: Fraction
    margin: Fraction
    end_tolerance: Fraction
    unsettled: set[int]

    @property
    def period(self) -> Fraction:
        """The mean time from one frame to the next."""
        return (self.end - self.times[0]) / len(self.times)

    def on_screen(self, second: Fraction) -> int:
        """The frame on screen at a second; before the first frame it is that one, after the last it is the last."""
        return max(bisect_right(self.times, second) - 1, 0)

    def may_be_on_screen(self, second: float) -> set[int]:
        """The frames that are on screen at a second, within the margin and what readers allow for rounding."""
        exact = Fraction(second)
        return {
            self.on_screen(exact + shift) for shift in (_ROUNDING - self.margin, _ROUNDING, _ROUNDING + self.margin)
        }


def truth(case: Case) -> Truth:
    """Decode a file from its start, passing over what can't be decoded.

    Raises:
        UnreadableError: There is nothing.
    """
    try:
        pictures, decoded_times, lasts, aspect = _decoded(case)
        unsettled = _unsettled(case, pictures) if case.damaged is not False else set()
    except av.FFmpegError as error:
        raise UnreadableError from error
    if not pictures:
        raise UnreadableError
    if case.times is not None:
        assert len(case.times) == len(pictures), f"{len(pictures)} frames decoded, {len(case.times)} times known"
        times = [_exact(time) for time in case.times]
        timed = case.timed
    else:
        times = [Fraction(index, 25) if time is None else time for index, time in enumerate(decoded_times)]
        timed = case.timed and None not in decoded_times
    timed = timed and all(early <= late for early, late in itertools.pairwise(times))
    end, tolerance = _end(times, lasts if case.end is None else _exact(case.end) - times[-1])
    turned = [np.rot90(picture, case.rotation // 90) for picture in pictures]
    shown = [np.ascontiguousarray(picture[:, ::-1] if case.hflip else picture) for picture in turned]
    aspect = 1 / aspect if case.rotation % 180 else aspect
    return Truth(times, timed, end, shown, aspect, _exact(case.margin), tolerance, unsettled)


def _unsettled(case: Case, pictures: list[np.ndarray]) -> set[int]:
    """The frames that are others where no decoded frame's memory is used again."""
    others, *_ = _decoded(case, used_again=False)
    return {index for index, pair in enumerate(zip(pictures, others, strict=True)) if not np.array_equal(*pair)}


def _end(times: list[Fraction], lasts: Fraction | None) -> tuple[Fraction, Fraction]:
    """When the last frame leaves the screen, and by how much another reader may differ.

    Where the file says how long the last frame lasts, or when the film ends, that may be off by a frame. Where it
    doesn't, frames last as long as they do on average, or as the longest does.
    """
    gaps = sorted(late - early for early, late in itertools.pairwise(times)) or [Fraction(1, 25)]
    if lasts is not None:
        return times[-1] + lasts, gaps[len(gaps) // 2] + Fraction(1, 1000)
    if len(times) == 1:
        return times[0] + Fraction(1, 25), Fraction(10)
    mean = sum(gaps, Fraction(0)) / len(gaps)
    return times[-1] + mean, max(gaps[-1] - mean, mean) + Fraction(1, 1000)


def _exact(second: float | Fraction) -> Fraction:
    return second if isinstance(second, Fraction) else Fraction(second).limit_denominator(10_000_000)


def _decoded(
    case: Case, used_again: bool = True
) -> tuple[list[np.ndarray], list[Fraction | None], Fraction | None, Fraction]:
    """Each frame, its time, for how long the last one is on screen, where the file says so, and the pixels' shape."""
    pictures: list[np.ndarray] = []
    times: list[Fraction | None] = []
    last = Fraction(0)
    kept: list[Any] = []
    with av.open(str(case.path), metadata_errors="replace") as container:
        stream = _video_stream(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all  # what is missing of sound does not end the film
        stream.codec_context.thread_count = 1  # what is put into the missing parts of pictures depends on it
        for frame in _frames(container, stream):
            if not used_again:
                kept.append(frame)
            if case.size:
                frame = frame.reformat(width=case.size[0], height=case.size[1], format="rgb24")
            pictures.append(frame.to_ndarray(format="rgb24"))
            times.append(None if frame.pts is None else frame.pts * stream.time_base)
            last = (frame.duration or 0) * stream.time_base
        if _ends_with_its_track(case, container) and stream.duration and times and times[-1] is not None:
            # In MP4 a sample's duration is the time to the next one in decoding order; the track says when it ends.
            last = (stream.start_time + stream.duration) * stream.time_base - times[-1]
        if times and times[0] is not None:
            zero = _start(container, times[0])
            times = [None if time is None else time - zero for time in times]
        aspect = case.aspect or stream.sample_aspect_ratio or Fraction(1)
    return pictures, times, last if last > 0 else None, aspect


def _ends_with_its_track(case: Case, container: Any) -> bool:
    return container.format.name.startswith("mov") and not case.damaged


def _video_stream(container: Any) -> Any:
    best = container.streams.best("video")
    if best is None or best.codec_context is None:
        raise UnreadableError
    if not best.disposition & Disposition.attached_pic:
        return best
    return next(stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)


def _start(container: Any, first: Fraction) -> Fraction:
    """Second 0 of a file by the clock of its streams.

    MP4 and Matroska have a time line of their own, whose 0 it is. Elsewhere it is the first picture or sound. Either
    way it lies no later than the first frame, and so far before it that it isn't rounding.
    """
    start = Fraction(0)
    if container.format.name not in ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"):
        start = first if container.start_time is None else Fraction(container.start_time, av.time_base)
    if container.format.name in ("mpegts", "mpeg", "flv", "ogg") and first - start > 10:
        return first  # a clock that may jump has done so
    return start if first - start > Fraction(2, 1_000_000) else first


def _frames(container: Any, stream: Any) -> Any:
    packets = container.demux(stream)
    while True:
        packet = None
        with contextlib.suppress(av.FFmpegError, IndexError, StopIteration):
            packet = next(packets)
        if packet is not None and packet.size == 0:
            packet = None
        with contextlib.suppress(av.FFmpegError):
            yield from stream.codec_context.decode(packet)
        if packet is None:
            return
