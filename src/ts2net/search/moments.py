"""From windows to moments: what overlaps, repeats or crowds out other videos is no result of its own.

Notable here: a moment is the best window itself, with its own start and end. If overlapping windows were joined, a
long scene would become one result of minutes, which is no moment to jump to.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .matching import ScoredWindow
from .windows import WindowSettings

COPY_COSINE = 0.995  # of every frame with the same frame of the other window
_ROUNDING = 1e-6  # seconds: windows that meet don't overlap


@dataclass
class Moment:
    """A result.

    Args:
        window: The window.
        copies: Windows that show the same, best first.
    """

    window: ScoredWindow
    copies: list[ScoredWindow] = field(default_factory=list)


def windows_for(moments: int, settings: WindowSettings) -> int:
    """How many of the best windows surely hold so many moments, if there are so many.

    A window overlaps those that start before its end and those that end after its start, and each of them may be
    better than the next moment.
    """
    return moments * (2 * math.ceil(settings.length / settings.step - 1 - 1e-9) + 1)


def merge(windows: Sequence[ScoredWindow], count: int | None = None) -> list[ScoredWindow]:
    """Leave out each window that overlaps a better one of the same video that is itself a result.

    Args:
        windows: Best first.
        count: The most to return; `None` for all.
    """
    moments: list[ScoredWindow] = []
    by_video: dict[str, list[ScoredWindow]] = {}
    for window in windows:
        if len(moments) == count:
            break
        others = by_video.setdefault(window.video_id, [])
        if not any(min(window.end, other.end) - max(window.start, other.start) > _ROUNDING for other in others):
            others.append(window)
            moments.append(window)
    return moments


def choose(
    windows: Sequence[ScoredWindow],
    count: int,
    per_video: int | None = None,
    frames_of: Callable[[Sequence[int]], dict[int, np.ndarray]] | None = None,
) -> list[Moment]:
    """Choose the moments of a result.

    Args:
        windows: Best first.
        count: The most moments.
        per_video: The most moments of one video; `None` for any number.
        frames_of: Gives the frame embeddings `(T, D)` of windows by row. With it, windows that show the same as a
            better one are its copies and no moments of their own; `None` folds none.
    """
    moments: list[Moment] = []
    of_video: Counter[str] = Counter()
    merged = merge(windows, None if frames_of or per_video else count)
    frames = {} if frames_of is None else frames_of([window.row for window in merged])
    for window in merged:
        if frames_of is not None:
            original = next((moment for moment in moments if _alike(frames, moment.window, window)), None)
            if original is not None:
                original.copies.append(window)
                continue
        if len(moments) < count and (per_video is None or of_video[window.video_id] < per_video):
            of_video[window.video_id] += 1
            moments.append(Moment(window))
    return moments


def _alike(frames: dict[int, np.ndarray], one: ScoredWindow, other: ScoredWindow) -> bool:
    """Whether two windows have as many frames, and each of one is nearly the same as that of the other."""
    left, right = frames[one.row], frames[other.row]
    return left.shape == right.shape and bool((np.vecdot(left, right) >= COPY_COSINE).all())
