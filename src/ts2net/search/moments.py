"""From windows to moments: of windows that show the same seconds only the best is given.

Notable here: a hit is the best window itself, with its own start and end. Were overlapping windows joined instead, a
long scene would become one hit of minutes, which is no moment to jump to.
"""

import math
from collections.abc import Sequence

from .matching import ScoredWindow
from .windows import WindowSettings

_ROUNDING = 1e-6  # seconds: windows that meet don't overlap


def windows_for(hits: int, settings: WindowSettings) -> int:
    """How many of the best windows hold `hits` moments for sure, if there are so many.

    A window overlaps so many others that begin before its end and as many that end after its start, and each of them
    may be better than the next moment.
    """
    return hits * (2 * math.ceil(settings.length / settings.step - 1 - 1e-9) + 1)


def merge(windows: Sequence[ScoredWindow], hits: int) -> list[ScoredWindow]:
    """Leave out each window that overlaps a better one of the same video that is itself given.

    Args:
        windows: Best first.
        hits: The most to give.
    """
    given: list[ScoredWindow] = []
    by_video: dict[str, list[ScoredWindow]] = {}
    for window in windows:
        if len(given) == hits:
            break
        others = by_video.setdefault(window.video_id, [])
        if not any(min(window.end, other.end) - max(window.start, other.start) > _ROUNDING for other in others):
            others.append(window)
            given.append(window)
    return given
