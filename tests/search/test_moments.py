"""Merging of windows into moments."""

import numpy as np
import pytest

from ts2net.search.fusing import FoundWindow, fuse_windows
from ts2net.search.matching import ScoredWindow
from ts2net.search.moments import choose, merge, windows_for
from ts2net.search.records import SpokenWindow
from ts2net.search.windows import WindowSettings


def seen(windows: list[ScoredWindow]) -> list[FoundWindow]:
    return fuse_windows(windows, [])


@pytest.mark.parametrize(("length", "step", "most"), [(12, 6, 3), (12, 12, 1), (12, 5, 5), (0.3, 0.1, 5)])
def test_windows_asked_for_are_enough(length, step, most):
    """`windows_for(k)` windows contain at least k that don't overlap, even if all neighbours are ranked together."""
    settings = WindowSettings(length, step, 30)
    assert windows_for(1, settings) == most
    rows = seen([ScoredWindow(-1.0, "v", n * step, n * step + length, n, 0) for n in range(200)])
    for order in (rows, sorted(rows, key=lambda row: (row.row // most, abs(row.row % most - most // 2)))):
        assert len(merge(order[: windows_for(4, settings)], 4)) == 4


def test_a_better_window_takes_in_its_neighbours_only():
    """A window that was removed for overlapping a better one doesn't remove other windows."""
    rows = seen(
        [ScoredWindow(-score, "v", start, start + 12, 0, 0) for score, start in [(3, 6.0), (2, 12.0), (1, 18.0)]]
    )
    assert [window.start for window in merge(rows, 10)] == [6.0, 18.0]


def picture(score: float, video: str, start: float, row: int = 0) -> ScoredWindow:
    return ScoredWindow(-score, video, start, start + 12, row, 0)


def speech(score: float, video: str, start: float, words: str = "words", row: int = 0) -> SpokenWindow:
    return SpokenWindow(video, start, start + 12, row, score, start + 1, words)


def summaries(windows: list[FoundWindow]) -> list[tuple[str, float, tuple[str, ...]]]:
    return [(window.video_id, window.start, window.found_in) for window in windows]


def test_what_is_seen_and_spoken_comes_before_what_is_one_of_both():
    """Fusion uses ranks instead of scores; of several subtitle languages, the best one counts."""
    pictures = [picture(9, "a", 0), picture(8, "b", 0), picture(7, "c", 0)]
    spoken = [speech(3, "d", 0), speech(2, "c", 0), speech(1, "c", 0, "other")]
    fused = fuse_windows(pictures, spoken)
    assert (fused[0].video_id, fused[0].words) == ("c", "words")
    assert summaries(fused) == [
        ("c", 0, ("picture", "speech")),
        ("a", 0, ("picture",)),
        ("d", 0, ("speech",)),
        ("b", 0, ("picture",)),
    ]


def test_what_is_seen_takes_in_nothing_that_is_only_spoken():
    """Overlapping windows are merged only if both were found in picture or both in speech."""
    fused = fuse_windows([picture(9, "a", 6)], [speech(3, "a", 0), speech(2, "a", -6)])
    assert summaries(merge(fused)) == [("a", 6, ("picture",)), ("a", 0, ("speech",))]
    both = fuse_windows([picture(9, "a", 6)], [speech(3, "a", 6), speech(2, "a", 0)])
    assert summaries(merge(both)) == [("a", 6, ("picture", "speech"))]


def test_the_same_picture_with_other_words_is_a_moment_of_its_own():
    """Windows with equal frames are separate moments if their words differ, and copies if the words are equal."""
    spoken = [speech(3, "a", 0, "one", row=0), speech(2, "a", 60, "two", row=1), speech(1, "b", 0, "one", row=2)]
    moments = choose(
        fuse_windows([], spoken), 9, None, lambda rows: {row: np.ones((1, 1), np.float32) for row in rows}
    )
    assert [(moment.window.words, len(moment.copies)) for moment in moments] == [("one", 1), ("two", 0)]
