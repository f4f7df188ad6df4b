"""Presentation times of the frames of a video, in seconds from the start of its file."""

import math
from dataclasses import dataclass

import numpy as np

EPSILON = 1e-6  # seconds; times are sums of fractions, and a frame at 2.9999999 s is on screen at 3 s
DEFAULT_FPS = 25.0  # for files that state neither times nor a rate, as in FFmpeg
_MAX_FPS = 1000.0  # a shorter duration of a lone frame is only the tick of the clock
# Seconds. A clock that may jump (MPEG-TS, MPEG-PS, FLV, Ogg) has jumped if it advances by more than the first limit or
# goes back by more than the second. These are the limits of the ffmpeg command.
_MAX_STEP, _MAX_STEP_BACK = 10.0, 0.1


@dataclass(frozen=True)
class Timeline:
    """Presentation times of all frames, and the overall frame rate.

    Attributes:
        times: seconds from the start of the file at which frames come on screen, `(frames,)` float64, ascending. The
            first is above 0 if the video starts later than its file, for example after its sound.
        fps: frames per second; the average if the rate varies.
        duration: seconds from the start of the file to the end of the last frame.
        constant: whether each frame starts within half a frame period of an even grid.
    """

    times: np.ndarray
    fps: float
    duration: float
    constant: bool

    @staticmethod
    def of(times: np.ndarray, declared_fps: float, last_duration: float) -> "Timeline":
        """Create a timeline, deriving rate and duration from times.

        Args:
            times: seconds at which frames come on screen, ascending.
            declared_fps: the rate that the file declares, 0 if none.
            last_duration: seconds that the last frame is on screen, 0 if unknown.
        """
        since_first = times - times[0]
        last = len(times) - 1
        if not last:
            rates = (fps for fps in (1 / last_duration if last_duration else 0, declared_fps) if 0 < fps < _MAX_FPS)
            fps = next(rates, DEFAULT_FPS)
            return Timeline(times, fps, round(float(times[0] + 1 / fps), 6), True)
        period = since_first[-1] / last
        constant = bool(np.abs(since_first - np.arange(last + 1) * period).max() < period / 2)
        lasts = last_duration or period
        duration = round(float(times[-1] + lasts), 6)
        if not constant:
            return Timeline(times, float((last + 1) / (since_first[-1] + lasts)), duration, False)
        # Times may be rounded (in Matroska to a millisecond), so the declared rate is more exact if it agrees with
        # them. Otherwise the rate is rounded to four digits, which such times support: 24.9998 must not count as 24.
        keeps_step = declared_fps > 0 and abs(since_first[-1] * declared_fps - last) < 0.5
        return Timeline(times, declared_fps if keeps_step else float(f"{1 / period:.4g}"), duration, True)

    @staticmethod
    def even(num_frames: int, fps: float) -> "Timeline":
        """Create the timeline of frames at a constant rate."""
        return Timeline(np.arange(num_frames) / fps, fps, num_frames / fps, True)

    def on_screen(self, seconds: float | list[float] | np.ndarray) -> np.ndarray:
        """Return the index of the frame on screen at each moment, 0 before the video starts."""
        moments = np.asarray(seconds, dtype=np.float64) + EPSILON
        return np.maximum(np.searchsorted(self.times, moments, side="right") - 1, 0)


class NoTimesError(Exception):
    """The times of frames go backwards, so that only the frame rate can be used."""


class FrameClock:
    """Converter of frame timestamps, given in order of presentation, to seconds from the start of the file."""

    def __init__(self, time_base: float, start: float | None, may_jump: bool, fps: float) -> None:
        """Create a clock.

        Args:
            time_base: seconds per tick.
            start: seconds at which the file starts on its own clock; None for the time of the first frame.
            may_jump: whether the clock of such files may jump. Frames then continue after a jump without a gap.
            fps: frames per second, for a jump right after the first frame. Elsewhere the frame before a jump lasts as
                long as the previous frame, because the rate that such files declare is often a guess.
        """
        self._time_base = time_base
        self._start = start
        self._may_jump = may_jump
        self._step = 1 / fps
        self._last: float | None = None
        self._reached = 0.0  # the time up to which packets follow each other without a jump

    def reach(self, pts: int) -> None:
        """Record a packet's timestamp, in decoding order, so that missing frames are not mistaken for a jump."""
        if self._last is not None:
            time = pts * self._time_base - self._start  # type: ignore[operator]  # set with the first frame
            if self._reached < time <= self._reached + _MAX_STEP:
                self._reached = time

    def seconds(self, pts: int | None) -> float:
        """Return the time at which the next frame comes on screen, NaN if it has no timestamp.

        Raises:
            NoTimesError: If the time is before the time of the previous frame.
        """
        if pts is None:
            return math.nan
        time = pts * self._time_base
        if self._last is None:
            self._start = first_second(time, self._start, self._may_jump)
            self._last = self._reached = time - self._start
            return self._last
        step = time - self._start - self._last  # type: ignore[operator]  # set with the first frame
        if self._may_jump and not -_MAX_STEP_BACK <= step <= _MAX_STEP + self._reached - self._last:
            self._start = time - self._last - self._step
            step = self._step
            self._reached = self._last
        if step < 0:
            raise NoTimesError
        self._last += step
        self._reached = max(self._reached, self._last)
        self._step = step or self._step
        return self._last


def complete_times(seconds: np.ndarray) -> np.ndarray | None:
    """Fill in missing times, which are NaN, at an even rate. Returns None if too few times are known.

    Frames without times at the start come before the first known time. If they would start below 0, all times are
    shifted so that the first is 0.
    """
    timed = np.flatnonzero(~np.isnan(seconds))
    if len(seconds) > 1 and (len(timed) < 2 or seconds[timed[-1]] <= seconds[timed[0]]):
        return None
    if len(timed) == len(seconds):
        return seconds
    first, last = timed[0], timed[-1]
    period = (seconds[last] - seconds[first]) / (last - first) if last > first else 0.0
    positions = np.arange(len(seconds))
    before, after = np.minimum(positions - first, 0) * period, np.maximum(positions - last, 0) * period
    complete = np.interp(positions, timed, seconds[timed]) + before + after
    return complete - min(complete[0], 0.0)


def first_second(time: float, start: float | None, may_jump: bool) -> float:
    """Return the time on the file's own clock that counts as second 0, given the time of the first frame.

    This is the start that the file states. It is the time of the first frame if the stated start is missing, lies
    after the first frame or within rounding before it, or lies too far before it in a file whose clock may jump.
    """
    if start is None or time - start < 2 * EPSILON or (may_jump and time - start > _MAX_STEP):
        return time
    return start
