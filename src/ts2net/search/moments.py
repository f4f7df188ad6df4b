"""From windows to moments: of overlapping windows only the best is a result.

Notable here: a moment is the best window itself, with its own start and end. If overlapping windows were joined, a
long scene would become one result of minutes, which is no moment to jump to.
"""

import math
from collections.abc import Sequence

from .matching import ScoredWindow
from .windows import WindowSettings

_ROUNDING = 1e-6  # seconds: windows that meet don't overlap


def windows_for(moments: int, settings: WindowSettings) -> int:
    """How many of the best windows surely hold so many moments, if there are so many.

    A window overlaps those that start before its end and those that end after its start, and each of them may be
    better than the next moment.
    """
    return moments * (2 * math.ceil(settings.length / settings.step - 1 - 1e-9) + 1)


def merge(windows: Sequence[ScoredWindow], count: int) -> list[ScoredWindow]:
    """Leave out each window that overlaps a better one of the same video that is itself a result.

    Args:
        windows: Best first.
        count: The most to return.
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
