"""From windows to moments."""

import pytest

from ts2net.search.fusing import FoundWindow, fuse_windows
from ts2net.search.matching import ScoredWindow
from ts2net.search.moments import merge, windows_for
from ts2net.search.windows import WindowSettings


def seen(windows: list[ScoredWindow]) -> list[FoundWindow]:
    return fuse_windows(windows, [])


@pytest.mark.parametrize(("length", "step", "most"), [(12, 6, 3), (12, 12, 1), (12, 5, 5), (0.3, 0.1, 5)])
def test_windows_asked_for_are_enough(length, step, most):
    """Of `windows_for(k)` windows there are k that don't overlap, even if neighbours all come together."""
    settings = WindowSettings(length, step, 30)
    assert windows_for(1, settings) == most
    rows = seen([ScoredWindow(-1.0, "v", n * step, n * step + length, n, 0) for n in range(200)])
    for order in (rows, sorted(rows, key=lambda row: (row.row // most, abs(row.row % most - most // 2)))):
        assert len(merge(order[: windows_for(4, settings)], 4)) == 4


def test_a_better_window_takes_in_its_neighbours_only():
    """A window that was left out leaves out no other."""
    rows = seen(
        [ScoredWindow(-score, "v", start, start + 12, 0, 0) for score, start in [(3, 6.0), (2, 12.0), (1, 18.0)]]
    )
    assert [window.start for window in merge(rows, 10)] == [6.0, 18.0]
