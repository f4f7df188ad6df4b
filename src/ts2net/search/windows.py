"""Division of long videos into overlapping windows, so that a result is a moment and not a whole video.

The frames of a window are those on screen at `start`, `start + 1 / fps`, ... before its end, in the seconds of a
player. The processor samples the same frames with its clock `"seconds"`, and additionally a frame at the end of a
moment if the end is one of these times.
"""

import math
from dataclasses import dataclass

DEFAULT_LENGTH, DEFAULT_FPS = 12.0, 1.0
_MAX_FRAMES = 4096  # of a window; far more than any temporal encoder has positions for


@dataclass(frozen=True)
class WindowSettings:
    """Settings for cutting videos into windows.

    Args:
        length: Length of a window in seconds.
        step: Seconds from the start of a window to the start of the next one.
        fps: Frames per second.

    Raises:
        ValueError: If a value is not a positive number, windows would leave gaps, or a window would have too many
            frames.
    """

    length: float = DEFAULT_LENGTH
    step: float = DEFAULT_LENGTH / 2
    fps: float = DEFAULT_FPS

    def __post_init__(self) -> None:
        for name in ("length", "step", "fps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if self.step > self.length:
            raise ValueError(f"step={self.step:g} is longer than the windows, length={self.length:g}: it would skip")
        if self.length * self.fps > _MAX_FRAMES:
            raise ValueError(
                f"length={self.length:g} at fps={self.fps:g} is {self.length * self.fps:g} frames a window, expected "
                f"at most {_MAX_FRAMES}"
            )

    def __str__(self) -> str:
        """Describe the settings for messages."""
        return f"{self.length:g} s every {self.step:g} s at {self.fps:g} frames a second"

    @property
    def num_frames(self) -> int:
        """Maximum number of frames of a window: one at its start and one every `1 / fps` seconds before its end."""
        return max(1, math.ceil(self.length * self.fps - 1e-9))


@dataclass(frozen=True)
class WindowChoice:
    """Optional window settings. The index or the model determines settings that are `None`.

    Args:
        length: Length of a window in seconds. `None` is the length of the index; for a new index 12, or less if the
            model accepts fewer frames.
        step: Seconds from the start of a window to the start of the next one. `None` is the step of the index if the
            length is the same, and otherwise half a window.
        fps: Frames per second. `None` is the value of the index; for a new index 1.
    """

    length: float | None = None
    step: float | None = None
    fps: float | None = None

    def complete(self, present: WindowSettings | None = None, max_frames: int | None = None) -> WindowSettings:
        """Complete the settings.

        Args:
            present: Settings of the index, if there is one.
            max_frames: Maximum number of frames that the model accepts; `None` for any number.

        Raises:
            ValueError: Same as in [`WindowSettings`].
        """
        fps = self.fps if self.fps is not None else present.fps if present else DEFAULT_FPS
        length = self.length
        if length is None and present:
            length = present.length
        elif length is None:
            most = math.inf if max_frames is None or not fps > 0 else max_frames / fps
            length = min(DEFAULT_LENGTH, most)
        step = self.step
        if step is None:
            step = present.step if present and length == present.length else length / 2
        return WindowSettings(length, step, fps)


@dataclass(frozen=True)
class Window:
    """A moment of a video, in seconds."""

    start: float
    end: float


def cut(duration: float, settings: WindowSettings) -> list[Window]:
    """Cut a video into windows that cover it.

    Windows begin at 0, `step`, `2 * step`, ... until one reaches the end of the video. All but the last are `length`
    seconds long.

    Args:
        duration: Duration of the video in seconds.
        settings: Length and step.

    Raises:
        ValueError: If `duration` is not a positive number.
    """
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration must be a positive number, got {duration}")
    windows: list[Window] = []
    while not windows or windows[-1].end < duration:
        start = round(len(windows) * settings.step, 6)
        windows.append(Window(start, min(round(start + settings.length, 6), duration)))
    return windows
