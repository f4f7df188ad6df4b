"""The truth about a file: a plain PyAV loop that decodes everything in order and reads all times."""

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

_ROUNDING = Fraction(1, 1_000_000)  # seconds; below the resolution of any container


class UnreadableError(Exception):
    """FFmpeg can't decode anything of a file."""


@dataclass(frozen=True)
class Case:
    """A file, and facts that its recipe knows better than a loop that reads the file.

    Args:
        path: The file.
        times: Seconds from the file's start of each frame, if the container does not state them (exactly).
        end: Seconds from the file's start at which the last frame leaves the screen, if the recipe knows.
        damaged: Whether a part of the file can't be read; None if that can't be known from the file.
        rotation: Degrees counter-clockwise by which pictures are rotated for display.
        hflip: Whether pictures are mirrored after that.
        aspect: Aspect ratio of a pixel, if the file does not state it.
        size: Stored width and height to which all frames are scaled, if sizes change.
        margin: Seconds by which times may differ, if the file does not determine them exactly.
        timed: Whether the times of the file are meaningful.
        refused: A part of the error message, if the file has to be refused.
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
    """Content of a file.

    Args:
        times: Seconds from the file's start at which each frame comes on screen, in order of presentation.
        timed: Whether `times` are valid. They are not if the file has no times, or times in another order. A decoder
            may return a damaged frame late, and it is unknown whether its time or its position is right.
        end: Seconds from the file's start at which the last frame leaves the screen.
        pictures: Each frame `(height, width, 3)` uint8 RGB as shown, but with the stored pixel shape.
        aspect: Aspect ratio of a pixel as shown.
        margin: Seconds by which times may differ.
        end_tolerance: Seconds by which `end` may differ for another reader: the file does not state more.
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
        """Return the frame on screen at a second: the first one before the start, the last one after the end."""
        return max(bisect_right(self.times, second) - 1, 0)

    def may_be_on_screen(self, second: float) -> set[int]:
        """Return the frames that may be on screen at a second, within the margin and the rounding of readers."""
        exact = Fraction(second)
        return {
            self.on_screen(exact + shift) for shift in (_ROUNDING - self.margin, _ROUNDING, _ROUNDING + self.margin)
        }


def truth(case: Case) -> Truth:
    """Decode a file from its start, skipping what can't be decoded.

    Raises:
        UnreadableError: If nothing can be decoded.
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
    """Return the frames that change if the memory of decoded frames is not reused."""
    others, *_ = _decoded(case, used_again=False)
    return {index for index, pair in enumerate(zip(pictures, others, strict=True)) if not np.array_equal(*pair)}


def _end(times: list[Fraction], lasts: Fraction | None) -> tuple[Fraction, Fraction]:
    """Return the end of the last frame, and the tolerance for other readers.

    If the file states the duration of the last frame or the end of the track, they may be off by a frame. If it
    doesn't, the last frame lasts as long as the mean or the longest of the other frames.
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
    """Return all frames, their times, the duration of the last frame if the file states it, and the pixel aspect."""
    pictures: list[np.ndarray] = []
    times: list[Fraction | None] = []
    last = Fraction(0)
    kept: list[Any] = []
    with av.open(str(case.path), metadata_errors="replace") as container:
        stream = _video_stream(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all  # so that missing sound doesn't end the video
        stream.codec_context.thread_count = 1  # the content of the missing parts of pictures depends on it
        for frame in _frames(container, stream):
            if not used_again:
                kept.append(frame)
            if case.size:
                frame = frame.reformat(width=case.size[0], height=case.size[1], format="rgb24")
            pictures.append(frame.to_ndarray(format="rgb24"))
            times.append(None if frame.pts is None else frame.pts * stream.time_base)
            last = (frame.duration or 0) * stream.time_base
        if _ends_with_its_track(case, container) and stream.duration and times and times[-1] is not None:
            # In MP4 a sample's duration is the time to the next sample in decoding order; the track states its end.
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
    """Return second 0 of a file on the clock of its streams.

    In MP4 and Matroska it is the 0 of the file's own time line, elsewhere the first picture or sound. It is the time
    of the first frame instead if it would be after the first frame, or within rounding before it.
    """
    start = Fraction(0)
    if container.format.name not in ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"):
        start = first if container.start_time is None else Fraction(container.start_time, av.time_base)
    if container.format.name in ("mpegts", "mpeg", "flv", "ogg") and first - start > 10:
        return first  # the clock has jumped
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
