"""Selection of the frames of a video: plain arithmetic, separate from decoding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .video_timing_ts2net import EPSILON, Timeline


@dataclass(frozen=True)
class FrameSampling:
    """Rule for selecting frames of a video.

    Candidates are taken at a fixed rate; if there are more than `num_frames`, `strategy` thins them out.

    Args:
        num_frames: maximum number of frames. None selects every candidate, and requires `fps=None`.
        fps: candidates per second. None makes every frame of the video a candidate, once.
        strategy: `"uniform"` (spread evenly from the first candidate to the last), `"first"` or `"last"`.
        start: start of the selected part of the video in seconds; the first frame if None.
        end: end of the selected part in seconds, inclusive; the video's end if None.
        clock: definition of a second. `"seconds"`: candidates are the frames on screen at `start`, `start + 1 / fps`,
            and so on, as a player shows them. `"released"`, as in the released TS2-Net: a second is
            `int(rate of the video)` frames, counted from the first frame, so 29 frames at 29.97 frames per second. At
            a constant whole rate the two agree.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_frames: int | None = 12
    fps: float | None = 1.0
    strategy: str = "uniform"
    start: float | None = None
    end: float | None = None
    clock: Literal["seconds", "released"] = "seconds"

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {self.num_frames}")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number, got {self.fps}")
        if self.num_frames is None and self.fps is not None:
            raise ValueError(f"num_frames=None takes every frame and needs fps=None, got fps={self.fps}")
        if self.strategy not in ("uniform", "first", "last"):
            raise ValueError(f"strategy must be 'uniform', 'first' or 'last', got {self.strategy!r}")
        if self.clock not in ("seconds", "released"):
            raise ValueError(f"clock must be 'seconds' or 'released', got {self.clock!r}")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a number of seconds, 0 or more, got {value}")
        if self.end is not None and self.end < (self.start or 0):
            raise ValueError(f"end={self.end} s lies before start={self.start or 0} s")

    def choose(self, timeline: Timeline) -> list[int]:
        """Return the indices of the selected frames of a video, at least one, in order of presentation.

        Raises:
            ValueError: If the video ends before `start`.
        """
        if self.fps is None:
            first = 0 if self.start is None else int(timeline.on_screen(self._begin(0.0, timeline.duration)))
            last = len(timeline.times) - 1 if self.end is None else int(timeline.on_screen(self.end))
            return [first + k for k in self._thin(last - first + 1)]
        if self.clock == "released":
            indices = self.released_indices(len(timeline.times), timeline.fps)
            if timeline.constant:
                return indices
            # OpenCV seeks to the moment `index / fps` when given an index.
            return timeline.on_screen(np.asarray(indices) / timeline.fps + timeline.times[0]).tolist()
        return timeline.on_screen(self.moments(float(timeline.times[0]), timeline.duration)).tolist()

    def likely_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Estimate the result of `choose` for `num_frames` frames at a constant rate; all frames if `fps` is None.

        It takes little memory for any number of frames.

        Raises:
            ValueError: If the video ends before `start`.
        """
        if self.fps is None:
            return range(num_frames)
        if self.clock == "released":
            return self.released_indices(num_frames, fps)
        return [int((moment + EPSILON) * fps) for moment in self.moments(0.0, num_frames / fps)]

    def moments(self, first: float, duration: float) -> list[float]:
        """Return the seconds at which frames are selected on a player's clock.

        Args:
            first: the second at which the first frame comes on screen.
            duration: the second at which the last frame ends.

        Raises:
            ValueError: If the video ends before `start`.
        """
        assert self.fps is not None
        begin = self._begin(first, duration)
        count = math.ceil((duration - begin - EPSILON) * self.fps)  # before the end of the video
        if self.end is not None:
            count = min(count, math.floor((self.end - begin + EPSILON) * self.fps) + 1)
        return [begin + k / self.fps for k in self._thin(max(count, 1))]

    def released_indices(self, num_frames: int, fps: float) -> list[int]:
        """Return the indices that the released TS2-Net selects from `num_frames` frames at a constant rate.

        Candidates are at least one frame apart.

        Raises:
            ValueError: If the video ends before `start`.
        """
        rate = self.fps
        assert rate is not None
        second = max(int(fps), 1)  # frames
        first, last = int((self.start or 0) * second), num_frames - 1
        if first > last:
            raise ValueError(self._beyond(num_frames / fps))
        if self.end is not None:
            last = min(int(self.end * second), last)

        def candidate(k: int) -> int:
            return first + max(k, int(k * second / rate))

        count = min(int((last - first) * rate / second), last - first) + 2  # at most two too many
        while candidate(count - 1) > last:
            count -= 1
        return [candidate(k) for k in self._thin(count)]

    def _begin(self, first: float, duration: float) -> float:
        if self.start is None:
            return first
        if self.start + EPSILON >= duration:
            raise ValueError(self._beyond(duration))
        return self.start

    def _beyond(self, duration: float) -> str:
        return f"start={self.start} s lies beyond the end of the video ({duration:.3f} s)"

    def _thin(self, count: int) -> Sequence[int]:
        """Select at most `num_frames` of `count` candidates."""
        if self.num_frames is None or count <= self.num_frames:
            return range(count)
        if self.strategy == "uniform":
            return np.linspace(0, count - 1, self.num_frames, dtype=int).tolist()
        return range(self.num_frames) if self.strategy == "first" else range(count - self.num_frames, count)
