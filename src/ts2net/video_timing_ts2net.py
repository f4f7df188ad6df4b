"""When each frame of a video is on screen, in seconds from the start of its file."""

import math
from dataclasses import dataclass

import numpy as np

EPSILON = 1e-6  # seconds; times are sums of fractions, and a frame at 2.9999999 s is on screen at 3 s
DEFAULT_FPS = 25.0  # where a file states neither times nor a rate; FFmpeg's choice as well
_MAX_FPS = 1000.0  # a lone frame that is shown for a shorter time has only the clock's tick
# A clock that may jump (MPEG-TS, MPEG-PS, FLV, Ogg) has jumped where it goes on by more than the first or goes back by
# more than the second: the limits of the ffmpeg command. Seconds.
_MAX_STEP, _MAX_STEP_BACK = 10.0, 0.1


@dataclass(frozen=True)
class Timeline:
    """When each frame comes on screen, and the frame rate as a whole.

    Attributes:
        times: seconds from the start of the file, `(frames,)` float64, ascending. The first is above 0 where the video
            starts later than its file, as after a sound that starts alone.
        fps: frames a second; the average where the rate varies.
        duration: seconds from the start of the file to the end of the last frame.
        constant: whether each frame starts within half a frame of its place on an even grid.
    """

    times: np.ndarray
    fps: float
    duration: float
    constant: bool

    @staticmethod
    def of(times: np.ndarray, declared_fps: float, last_duration: float) -> "Timeline":
        """Derives rate and duration from times.

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
        # Times may be rounded (Matroska's to a millisecond): the declared rate is better, as long as it keeps step.
        # Otherwise four digits are as many as such times bear out, and 24.9998 must not count as 24 a second.
        keeps_step = declared_fps > 0 and abs(since_first[-1] * declared_fps - last) < 0.5
        return Timeline(times, declared_fps if keeps_step else float(f"{1 / period:.4g}"), duration, True)

    @staticmethod
    def even(num_frames: int, fps: float) -> "Timeline":
        """The timeline of frames at a constant rate."""
        return Timeline(np.arange(num_frames) / fps, fps, num_frames / fps, True)

    def on_screen(self, seconds: float | list[float] | np.ndarray) -> np.ndarray:
        """The index of the frame on screen at each moment; the first one before the video starts."""
        moments = np.asarray(seconds, dtype=np.float64) + EPSILON
        return np.maximum(np.searchsorted(self.times, moments, side="right") - 1, 0)


class NoTimesError(Exception):
    """The times of frames go backwards, so that only the frame rate is left to go by."""


class FrameClock:
    """Turns the timestamps of frames, which come in the order of presentation, into seconds from the file's start."""

    def __init__(self, time_base: float, start: float | None, may_jump: bool, fps: float) -> None:
        """Sets the clock.

        Args:
            time_base: seconds of a tick.
            start: seconds at which the file starts by its own clock; None means with the first frame.
            may_jump: whether the clock of such files may jump. Then frames go on after a jump as if there were none.
            fps: frames a second, for a jump right after the first frame. Elsewhere the frame before a jump lasts as
                long as the one before it: the rate that such files declare is often a guess.
        """
        self._time_base = time_base
        self._start = start
        self._may_jump = may_jump
        self._step = 1 / fps
        self._last: float | None = None
        self._reached = 0.0  # the time up to which packets follow on each other without a jump

    def reach(self, pts: int) -> None:
        """Notes the timestamp of a packet, in the order of decoding: where only frames are missing, no clock jumps."""
        if self._last is not None:
            time = pts * self._time_base - self._start  # type: ignore[operator]  # set with the first frame
            if self._reached < time <= self._reached + _MAX_STEP:
                self._reached = time

    def seconds(self, pts: int | None) -> float:
        """When the next frame comes on screen; NaN if it has no timestamp.

        Raises:
            NoTimesError: it comes before the frame before it.
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
    """Fills in missing times, which are NaN, at an even rate; None if too few are known to tell one.

    Frames without times at the start come before the first one that has a time, at 0 if there is no room for them.
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
    """Where the seconds of a file start by its own clock, given the time of the first frame.

    That is the file's stated start, unless it lies after the first frame, too far before it for a clock that may jump,
    or so little before it that only rounding lies between.
    """
    if start is None or time - start < 2 * EPSILON or (may_jump and time - start > _MAX_STEP):
        return time
    return start
