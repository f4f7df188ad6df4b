"""Re-encoding shows the file's frames at the same seconds. Its cost depends on the frames, not on claimed times."""

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support.corpus.writing import even, remux, remux_with_a_late_packet, write
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.videos.reencoding import FPS, reencode_video

EVERY_FRAME = FrameSampling(num_frames=None, fps=None)


@pytest.mark.parametrize("hours", [1, 24, 10_000])
def test_hours_that_a_file_claims_cost_nothing(hours: int, tmp_path: Path):
    """A frame that stays on screen for hours is written once, so the time does not grow with the duration."""
    path = write(tmp_path / "gap.mkv", [0, 0.04, 0.4, 3600 * hours], options={"bf": "0"})
    begin = time.process_time()
    reencoded = reencode_video(path)
    assert time.process_time() - begin < 5
    video = decode_video(reencoded.video, EVERY_FRAME)
    assert video.timestamps == pytest.approx([0, 1 / 3, 2 / 3, 3600 * hours], abs=1e-3)
    assert reencoded.damage is None


def test_one_wrong_time_costs_nothing(tmp_path: Path):
    """If timestamps are wrong, re-encoding times the frames by the frame rate, as the processor does."""
    source = write(tmp_path / "src.mp4", even(200), time_base=Fraction(1, 25), options={"bf": "0", "g": "25"})
    path = remux_with_a_late_packet(source, tmp_path / "a.mkv")
    video = decode_video(reencode_video(path).video, EVERY_FRAME)
    assert video.timestamps == pytest.approx([number / FPS for number in range(8 * FPS)], abs=1e-5)


def test_the_last_frame_stays_as_long_as_it_did(tmp_path: Path):
    """Slides of ten seconds are written once each, and the re-encoded video keeps the duration."""
    times = [0.0, 10.0, 20.0, 30.0]

    def hold(packets: list[av.Packet]) -> list[av.Packet]:
        packets[-1].duration = round(10 / packets[-1].time_base)
        return packets

    source = write(tmp_path / "src.mkv", times, options={"bf": "0"})
    slides = remux(source, tmp_path / "slides.mkv", edit=hold)
    video = decode_video(reencode_video(slides).video, EVERY_FRAME)
    assert video.timestamps == times
    assert video.info.duration == pytest.approx(decode_video(slides).info.duration, abs=1 / FPS)
    assert len(decode_video(reencode_video(slides).video, FrameSampling(num_frames=60)).indices) == 40


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_moment_counts_from_the_start_of_the_file(suffix: str, tmp_path: Path):
    """Start and end count as in the processor. The first frame, at second 2, also represents the time before it."""
    path = write(tmp_path / f"a.{suffix}", even(100, start=2), options={"g": "25"})
    for start, end in [(None, None), (3.0, 4.0), (1.0, 3.0)]:
        original = decode_video(path, FrameSampling(start=start, end=end))
        small = decode_video(reencode_video(path, start, end).video)
        assert len(small.indices) == len(original.indices)
        distance = np.abs(small.frames.numpy().astype(int) - original.frames.numpy().astype(int)).mean()
        others = np.abs(small.frames.numpy().astype(int) - original.frames.numpy()[::-1].astype(int)).mean()
        assert distance < others / 2


def test_two_recordings_in_one_file_are_both_kept(tmp_path: Path):
    path = tmp_path / "both.ts"
    parts = [write(tmp_path / f"{at}.ts", even(50, start=at)) for at in (30, 5000)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert decode_video(reencode_video(path).video).info.duration == pytest.approx(4, abs=0.4)


def test_a_file_that_lasts_longer_than_an_mp4_can_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.mkv", [0, 0.04, 3600 * 24 * 365 * 30], options={"bf": "0"})
    with pytest.raises(ValueError, match=r"a\.mkv: it lasts over 715827882 s, more than an MP4 can"):
        reencode_video(path)
