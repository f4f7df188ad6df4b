"""Where a long video is cut: overlapping windows, so that what is found is a moment and not a film.

Notable here: a window's frames lie on its own grid, which begins at its start: those on screen at `start`,
`start + 1 / fps`, ... before its end, by the seconds of a player. The processor takes the same by its clock
`"seconds"`, and one more where the grid meets the end of a moment, which it includes.
"""

import math
from dataclasses import dataclass

_MAX_FRAMES = 4096  # a window; far more than any temporal encoder has positions for


@dataclass(frozen=True)
class WindowSettings:
    """How videos are cut into windows.

    Args:
        length: Seconds that a window is long.
        step: Seconds from one window's start to the next one's.
        fps: Frames a second.

    Raises:
        ValueError: If one of them is not a positive number, windows would leave gaps, or one would have too many
            frames.
    """

    length: float = 12.0
    step: float = 6.0
    fps: float = 1.0

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

    @property
    def num_frames(self) -> int:
        """The most frames of a window: one at its start and one every `1 / fps` seconds, before its end."""
        return max(1, math.ceil(self.length * self.fps - 1e-9))


@dataclass(frozen=True)
class Window:
    """A moment of a video, in seconds."""

    start: float
    end: float


def cut(duration: float, settings: WindowSettings) -> list[Window]:
    """Cut a video into windows that cover it.

    They begin at 0, `step`, `2 * step`, ... as long as something is left that the window before doesn't show. All but
    the last are `length` seconds long.

    Args:
        duration: Seconds that the video lasts.
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
