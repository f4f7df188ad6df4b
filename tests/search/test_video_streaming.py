"""Streaming of a video: one frame at a time, equal to the frames of a full decode."""

import os
import warnings
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from support.video_files import decode_from_start, write_video
from ts2net import TS2NetVideoProcessor
from ts2net.search.frame_stream import stream_video
from ts2net.search.sources import VideoFile
from ts2net.search.streaming import decode_windows
from ts2net.search.windows import WindowSettings
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.video_source_ts2net import VideoDecodingError


def every_second(duration: float) -> list[float]:
    return [float(second) for second in range(int(duration) + 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("a.mp4", {"frames": 130}),  # seeks by the index in the header
        ("b.mp4", {"frames": 130, "options": {"x264-params": "keyint=7:bframes=3"}}),
        ("c.mkv", {"frames": 130, "options": {"x264-params": "keyint=50"}}),  # seeks by its packets
        ("d.webm", {"frames": 60, "codec": "libvpx-vp9", "fps": 12}),
        ("e.avi", {"frames": 130, "codec": "mpeg4"}),  # decoded in order
        ("f.ts", {"frames": 130}),
        ("g.mp4", {"frames": 130, "rotation": 90, "hflip": True}),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_frames_are_those_that_are_decoded_at_once(tmp_path: Path, file: str, options: dict[str, Any], threads: int):
    path = write_video(tmp_path / file, **options)
    reference = decode_video(path, FrameSampling(num_frames=99))
    frames = list(stream_video(path, every_second, num_threads=threads))
    assert [frame.index for frame in frames] == reference.indices
    assert [frame.timestamp for frame in frames] == reference.timestamps
    assert {frame.info for frame in frames} == {reference.info}
    for frame, expected in zip(frames, reference.frames, strict=True):
        assert torch.equal(frame.rgb, expected)


@pytest.mark.slow
def test_a_moment_is_one_of_the_clock_at_any_frame_rate(tmp_path: Path):
    """The frame for each second is the one on screen, by the frame times of a plain decoder."""
    path = write_video(tmp_path / "a.mp4", frames=600, fps=Fraction(30000, 1001))
    times = [float(frame.time) for frame in decode_from_start(str(path))]
    for frame in stream_video(path, every_second):
        assert frame.index == max(index for index, time in enumerate(times) if time <= frame.moment + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), 25])
def test_windows_have_the_frames_that_the_processor_takes_of_their_seconds(tmp_path: Path, fps: Fraction | int):
    """Windows have the frames that the processor samples by real seconds, even if its own clock is "released"."""
    path = write_video(tmp_path / "a.mp4", frames=400, fps=fps, options={"x264-params": "keyint=48"})
    processor = TS2NetVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.clock = "released"
    file = VideoFile(str(path), "", str(path), 0, path.stat().st_size)
    windows = list(decode_windows(file, WindowSettings(length=4, step=2), processor))[:-2]  # full-length windows
    assert len(windows) >= 5
    for window in windows:
        moment = {"start": window.start, "end": window.end - 0.5}
        (metadata,) = processor(path, clock="seconds", return_metadata=True, **moment)["video_metadata"]
        assert window.frame_times == metadata.timestamps


def test_a_slide_comes_for_each_moment_that_it_is_on_screen(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", frames=4, pts=[0, 1000, 5000, 9000], time_base=Fraction(1, 1000))
    frames = list(stream_video(path, lambda duration: [0.5, 1.5, 4.9, 5.0, 8.0, 1e9]))
    assert [frame.index for frame in frames] == [0, 1, 1, 2, 2]


@pytest.mark.slow
def test_a_video_cut_off_is_gone_on_with(tmp_path: Path):
    """A truncated video whose header index is intact gives each frame before the cut once, and a warning."""
    faststart = {"movflags": "faststart"}
    options = {"x264-params": "keyint=24"}
    path = write_video(tmp_path / "a.mp4", frames=480, options=options, container_options=faststart)
    intact = {frame.moment: frame.rgb for frame in stream_video(path, every_second)}
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.warns(UserWarning, match=r"a\.mp4: damaged or cut off; \d+ frames of the 480"):
        frames = list(stream_video(path, every_second))
    assert [frame.moment for frame in frames] == [float(second) for second in range(len(frames))]
    assert 10 <= len(frames) < 20
    for frame in frames[:-1]:
        assert torch.equal(frame.rgb, intact[frame.moment])


@pytest.mark.slow
def test_the_duration_is_corrected_when_the_header_is_wrong(tmp_path: Path):
    """If the duration in the header is wrong, moments are requested again, and those after the end are skipped."""
    path = write_video(tmp_path / "a.mkv", frames=240)
    os.truncate(path, path.stat().st_size // 2)
    durations: list[float] = []

    def moments(duration: float) -> Iterable[float]:
        durations.append(duration)
        return every_second(duration)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = list(stream_video(path, moments))
    assert frames[-1].moment <= durations[-1] < 10
    assert [frame.moment for frame in frames] == every_second(frames[-1].moment)


def test_a_caller_that_refuses_the_duration_is_heard(tmp_path: Path):
    def refuse(duration: float) -> Iterable[float]:
        raise VideoDecodingError(f"too long: {duration:g} s")

    for name in ("a.mp4", "a.ts"):
        with pytest.raises(VideoDecodingError, match="too long: 2"):
            list(stream_video(write_video(tmp_path / name), refuse))
