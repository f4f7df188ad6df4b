"""Division of videos into windows."""

import math
from itertools import pairwise

import pytest

from ts2net.search import WindowSettings
from ts2net.search.windows import Window, WindowChoice, cut


def test_windows_overlap_and_cover_the_video():
    """Every second of a video is in a window, and the last window ends with the video."""
    assert cut(25.0, WindowSettings()) == [Window(0, 12), Window(6, 18), Window(12, 24), Window(18, 25)]
    assert cut(24.0, WindowSettings()) == [Window(0, 12), Window(6, 18), Window(12, 24)]


@pytest.mark.parametrize("duration", [0.04, 3.0, 11.9, 12.0])
def test_a_short_video_is_one_window(duration: float):
    assert cut(duration, WindowSettings()) == [Window(0, duration)]


@pytest.mark.parametrize(("length", "step"), [(12.0, 12.0), (10.0, 4.0), (2.5, 0.7)])
def test_no_window_shows_only_what_the_one_before_shows(length: float, step: float):
    windows = cut(61.3, WindowSettings(length, step))
    assert windows[0].start == 0
    assert windows[-1].end == 61.3
    for before, after in pairwise(windows):
        assert after.start <= before.end < after.end
        assert math.isclose(after.start - before.start, step)


def test_the_default_window_is_what_the_model_takes_and_at_most_twelve_seconds():
    assert WindowChoice().complete() == WindowSettings(12, 6, 1)
    assert WindowChoice().complete(max_frames=64) == WindowSettings(12, 6, 1)
    assert WindowChoice().complete(max_frames=8) == WindowSettings(8, 4, 1)
    assert WindowChoice(fps=4).complete(max_frames=8) == WindowSettings(2, 1, 4)
    assert WindowChoice(step=3).complete(max_frames=8) == WindowSettings(8, 3, 1)


def test_what_is_left_open_is_as_in_the_index():
    present = WindowSettings(10, 2, 3)
    assert WindowChoice().complete(present, max_frames=8) == present
    assert WindowChoice(length=6).complete(present) == WindowSettings(6, 3, 3)
    assert WindowChoice(length=10, fps=1).complete(present) == WindowSettings(10, 2, 1)


def test_number_of_frames_of_a_window():
    assert WindowSettings().num_frames == 12
    assert WindowSettings(length=2.5, step=1, fps=2).num_frames == 5
    assert WindowSettings(length=0.1, step=0.1, fps=1).num_frames == 1
    assert WindowSettings(length=0.3, step=0.3, fps=10).num_frames == 3  # 0.3 * 10 must not round up to 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "length must be a positive number, got 0"),
        ({"step": -1}, "step must be a positive number, got -1"),
        ({"fps": math.nan}, "fps must be a positive number, got nan"),
        ({"length": 5}, "step=6 is longer than the windows, length=5"),
        ({"length": 1e4, "step": 1}, "10000 frames a window, expected at most 4096"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        WindowSettings(**settings)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.inf, math.nan])
def test_a_duration_that_is_none_is_refused(duration: float):
    with pytest.raises(ValueError, match="duration must be a positive number"):
        cut(duration, WindowSettings())
