"""Choice of frames with either clock, tested by arithmetic on timelines."""

import json
from pathlib import Path

import pytest

from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.video_timing_ts2net import Timeline

GOLDEN = json.loads((Path(__file__).parent / "golden" / "frame_sampling.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['num_video_frames']}@{case['video_fps']}")
def test_sampling_is_that_of_the_released_code(case):
    sampling = FrameSampling(
        case["num_frames"], start=case["start_seconds"], end=case["end_seconds"], clock="released"
    )
    assert sampling.choose(Timeline.even(case["num_video_frames"], case["video_fps"])) == case["indices"]


@pytest.mark.parametrize("rate", [0.1, 0.3, 1, 2, 2.5, 7, 29, 30, 1e6])
@pytest.mark.parametrize("fps", [0.2, 1, 2.5, 29.97, 30])
def test_candidates_follow_the_rule_at_any_rate(rate, fps):
    # The rule: candidate k lies k periods of `rate` later, at least one frame after the previous candidate.
    step = max(int(fps), 1) / rate
    expected = [10 * max(int(fps), 1) + max(k, int(k * max(int(fps), 1) / rate)) for k in range(2000)]
    expected = [index for index in expected if index < 1000]
    sampling = FrameSampling(2000, rate, start=10, clock="released")
    assert sampling.choose(Timeline.even(1000, fps)) == expected, step


def test_strategies():
    video = Timeline.even(600, 30)
    for clock in ("seconds", "released"):
        assert FrameSampling(3, strategy="first", clock=clock).choose(video) == [0, 30, 60]
        assert FrameSampling(3, strategy="last", clock=clock).choose(video) == [510, 540, 570]
        assert FrameSampling(3, strategy="uniform", clock=clock).choose(video) == [0, 270, 570]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 20.5}, r"start=20.5 s lies beyond the end of the video \(20.000 s\)"),
        ({"start": 5, "end": 4}, "end=4 s lies before start=5 s"),
        ({"start": -1}, "start must be .* got -1"),
        ({"end": float("nan")}, "end must be .* got nan"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"fps": 0}, "fps must be a positive number, got 0"),
        ({"num_frames": None}, "num_frames=None takes every frame and needs fps=None, got fps=1.0"),
        ({"strategy": "middle"}, "strategy must be .* got 'middle'"),
        ({"clock": "frames"}, "clock must be 'seconds' or 'released', got 'frames'"),
    ],
)
def test_sampling_refuses_what_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        FrameSampling(**settings).choose(Timeline.even(600, 30.0))


def test_a_header_that_promises_billions_of_frames_costs_nothing():
    for clock in ("seconds", "released"):
        indices = FrameSampling(3, clock=clock).likely_indices(2**40, 30.0)
        assert indices == [0, 549755813880, 1099511627760]


def test_the_two_clocks_agree_at_whole_rates_and_only_there():
    for fps, agree in [(1, True), (25, True), (30, True), (29.97, False), (12.5, False), (0.4, False)]:
        video = Timeline.even(1000, fps)
        moments = [FrameSampling(12, start=start, end=30) for start in (None, 3, 20)]
        released = [FrameSampling(12, start=each.start, end=30, clock="released").choose(video) for each in moments]
        assert ([each.choose(video) for each in moments] == released) == agree, fps
