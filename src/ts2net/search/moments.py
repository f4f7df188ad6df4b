"""Choose the moments of a result from ranked windows: drop overlaps, fold copies, limit the moments of a video.

A moment is the best window itself, with its own start and end. If overlapping windows were joined, a long scene would
become one result of several minutes.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .fusing import FoundWindow, share_modality
from .windows import WindowSettings

COPY_COSINE = 0.995  # least cosine of each frame with the frame of the same number in the other window
_ROUNDING = 1e-6  # seconds; adjacent windows don't overlap


@dataclass
class Moment:
    """A moment of a result.

    Args:
        window: The best window of the moment.
        copies: Windows that show the same, best first.
    """

    window: FoundWindow
    copies: list[FoundWindow] = field(default_factory=list)


def windows_for(moments: int, settings: WindowSettings) -> int:
    """Return a number of best windows that is certain to contain `moments` moments, if there are that many.

    A window overlaps the windows that start before its end and end after its start, and each of these may rank before
    the next moment.
    """
    return moments * (2 * math.ceil(settings.length / settings.step - 1 - 1e-9) + 1)


def merge(windows: Sequence[FoundWindow], count: int | None = None) -> list[FoundWindow]:
    """Drop each window that overlaps a better window of the same video which is kept.

    A window found only in pictures never replaces one found only in speech, or the reverse.

    Args:
        windows: The windows, best first.
        count: Maximum number of windows to return; `None` for all.
    """
    moments: list[FoundWindow] = []
    by_video: dict[str, list[FoundWindow]] = {}
    for window in windows:
        if len(moments) == count:
            break
        others = by_video.setdefault(window.video_id, [])
        if not any(_overlap(window, other) for other in others):
            others.append(window)
            moments.append(window)
    return moments


def _overlap(window: FoundWindow, other: FoundWindow) -> bool:
    shared = min(window.end, other.end) - max(window.start, other.start)
    return shared > _ROUNDING and share_modality(window, other)


def choose(
    windows: Sequence[FoundWindow],
    count: int,
    per_video: int | None = None,
    frames_of: Callable[[Sequence[int]], dict[int, np.ndarray]] | None = None,
) -> list[Moment]:
    """Choose the moments of a result.

    Args:
        windows: The windows, best first.
        count: Maximum number of moments.
        per_video: Maximum number of moments of one video; `None` for any number.
        frames_of: Returns the frame embeddings `(T, D)` of windows by row. With it, a window that shows the same as a
            better window becomes a copy of it, unless it was found by other spoken words. `None` folds no copies.
    """
    moments: list[Moment] = []
    seen: list[Moment] = []  # includes moments above `per_video`, because their copies are not results either
    of_video: Counter[str] = Counter()
    merged = merge(windows, None if frames_of or per_video else count)
    if not merged:
        return []
    copies = None if frames_of is None else _Copies(frames_of([window.row for window in merged]))
    for window in merged:
        if copies is not None:
            original = next((moment for moment in seen if copies.alike(moment.window, window)), None)
            if original is not None:
                original.copies.append(window)
                continue
        seen.append(Moment(window))
        if len(moments) < count and (per_video is None or of_video[window.video_id] < per_video):
            of_video[window.video_id] += 1
            moments.append(seen[-1])
    return moments


class _Copies:
    """Detects windows that show the same: equally many frames, each nearly equal to its counterpart.

    Args:
        frames: Normalised frame embeddings `(T, D)`, by row.
    """

    def __init__(self, frames: dict[int, np.ndarray]) -> None:
        self._frames = frames
        self._number = {row: number for number, row in enumerate(frames)}
        # Unit vectors of cosine c are sqrt(2 - 2 c) apart, and means are no farther apart than their frames.
        means = np.array([of_window.mean(axis=0) for of_window in frames.values()])
        squares = np.vecdot(means, means)
        distances = squares[:, None] + squares - 2 * means @ means.T
        self._is_near = distances <= 2 - 2 * COPY_COSINE + 1e-4

    def alike(self, original: FoundWindow, window: FoundWindow) -> bool:
        near = self._is_near[self._number[original.row], self._number[window.row]]
        if not (near and share_modality(window, original) and window.words in (None, original.words)):
            return False
        left, right = self._frames[original.row], self._frames[window.row]
        return left.shape == right.shape and bool((np.vecdot(left, right) >= COPY_COSINE).all())
