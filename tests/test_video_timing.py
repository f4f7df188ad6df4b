"""Timestamps of frames: seconds count as in a player, and every way of reading a file gives the same times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support.corpus.writing import cut_bytes, even, remux, remux_with_a_late_packet, set_edits, without_times, write
from support.video_files import decode_from_start
from ts2net.search.frame_stream import stream_video
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.video_timing_ts2net import FrameClock, NoTimesError, Timeline, complete_times
from ts2net.videos.reencoding import reencode_video

NTSC = Fraction(30000, 1001)
EVERY_FRAME = FrameSampling(num_frames=None, fps=None)


def on_screen(times: list[float], second: float) -> int:
    """Return the index of the last frame at or before a second, or 0 before the first frame, by a plain search."""
    return max((index for index, time in enumerate(times) if time <= second + 1e-6), default=0)


def assert_on_screen(path: Path, times: list[float], seconds: list[float]) -> None:
    """Check that the processor's decoder and search's stream both take the frame on screen at each second."""
    expected = [on_screen(times, second) for second in seconds]
    for second, index in zip(seconds, expected, strict=True):
        assert decode_video(path, FrameSampling(start=second, end=second)).indices == [index], second
    assert [frame.index for frame in stream_video(path, lambda duration: seconds)] == expected


# Seconds as in a player


@pytest.mark.slow
@pytest.mark.parametrize("fps", [Fraction(24000, 1001), NTSC, Fraction(25, 2), 25, 60])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_frame_on_screen_is_taken_at_any_rate(fps: Fraction | int, suffix: str, tmp_path: Path):
    path = write(tmp_path / f"a.{suffix}", even(200, fps), rate=fps, time_base=1 / Fraction(fps), options={"g": "24"})
    frames = decode_from_start(str(path))
    start = float(frames[0].time) if suffix == "ts" else 0.0
    last = int((len(frames) - 1) / fps)
    assert_on_screen(path, [float(frame.time) - start for frame in frames], [0.0, 0.5, 1.0, last - 0.1, float(last)])


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([0, 10, 20, 30, 30.04], [2, 9.9, 10, 15, 29.9]),  # slides, less than one a second
        ([0, 1, 2, 3, 13, 13.04], [0, 1, 2, 3, 12.9, 13]),
        ([index * 2 / 3 for index in range(60)], [10, 20, 39]),  # time lapse
        ([0, 0.1, 0.2, 0.3, 5, 5.1, 5.2, 9], [0.15, 4.9, 5, 8]),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_seconds_are_no_frames_where_these_are_few(times: list[float], seconds: list[float], suffix, tmp_path: Path):
    assert_on_screen(write(tmp_path / f"a.{suffix}", times), times, [float(second) for second in seconds])


def test_one_frame_a_second_is_taken_of_slides(tmp_path: Path):
    path = write(tmp_path / "a.mp4", [0, 1, 2, 3, 13, 13.04])
    assert decode_video(path, FrameSampling(num_frames=20)).timestamps == [0, 1, 2, *[3] * 10, 13]


@pytest.mark.parametrize("step", [0.03990, 0.04008])
def test_true_times_decide_and_not_the_declared_rate(step: float, tmp_path: Path):
    """Frames are chosen by their timestamps, although these deviate from the declared 25 fps."""
    rng = np.random.default_rng(0)
    times = [round(index * step + rng.uniform(-0.004, 0.004) * (index > 0), 3) for index in range(300)]
    path = write(tmp_path / "a.mkv", times, options={"g": "50"})
    assert_on_screen(path, times, [float(second) for second in range(int(times[-1]) + 1)])


# Start of the timeline


@pytest.mark.parametrize(
    ("suffix", "sound"), [("mp4", None), ("mp4", (0, 6)), ("mkv", None), ("mkv", (0, 6)), ("webm", None)]
)
def test_seconds_count_from_the_start_of_the_file(suffix: str, sound: tuple[float, float] | None, tmp_path: Path):
    """Seconds count from the file's 0, as in a browser. By default, sampling begins at the first frame (2 s here)."""
    codec = "libvpx" if suffix == "webm" else "libx264"
    times = even(100, 25, start=2)
    path = write(tmp_path / f"a.{suffix}", times, codec=codec, sound=sound)
    assert_on_screen(path, times, [0.0, 1.5, 2.0, 3.5, 5.96])
    video = decode_video(path)
    assert video.timestamps == [2, 3, 4, 5]
    assert video.info.duration == pytest.approx(6, abs=0.01)
    with pytest.raises(ValueError, match=r"start=6.5 s lies beyond the end of the video \(6\.0\d\d s\)"):
        decode_video(path, FrameSampling(start=6.5))


def test_a_broadcast_stream_starts_with_its_first_picture_or_sound(tmp_path: Path):
    path = write(tmp_path / "a.ts", even(100, 25, start=12), sound=(10, 16))
    with av.open(str(path)) as container:
        start = container.start_time / av.time_base
        first = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
    assert first - start == pytest.approx(2, abs=0.1)  # sound alone
    assert decode_video(path).timestamps[0] == pytest.approx(first - start, abs=1e-5)


# End of the timeline


@pytest.mark.parametrize(
    ("edits", "end"),
    [
        ([], 3.0),
        ([(1.03, 0.5)], 1.03),  # ends within a frame
        ([(0.5, -1), (1.5, 0.5)], 2.0),  # an empty edit of 0.5 s first
        ([(2.0, -1), (1.5, 0.5)], 3.5),
    ],
)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])  # with an index table, and in decoding order
def test_an_mp4_ends_where_its_track_says(codec: str, edits: list[tuple[float, float]], end: float, tmp_path: Path):
    """The track gives the duration, because the last shown packet's own duration leads to the next one decoded."""
    options = {"bf": "2", "b_strategy": "0"} if codec == "libx264" else {}
    path = write(
        tmp_path / "a.mp4", even(30, 10), codec=codec, rate=10, time_base=Fraction(1, 10), options={"g": "5"} | options
    )
    if edits:
        set_edits(path, edits)
    assert decode_video(path).info.duration == pytest.approx(end, abs=0.002)
    assert next(stream_video(path, lambda duration: [0.0])).info.duration == pytest.approx(end, abs=0.002)
    since_first = end - sum(seconds for seconds, begin in edits if begin < 0)
    assert decode_video(reencode_video(path).video).info.duration == pytest.approx(since_first, abs=1 / 3)


@pytest.mark.parametrize(
    ("declared", "duration", "fps"), [(30, 0.5, 2), (30, 0, 30), (1000, 0.001, 25), (90000, 1 / 90000, 25), (0, 0, 25)]
)
def test_the_rate_of_a_lone_frame_is_how_long_it_is_shown(declared: float, duration: float, fps: float):
    """A single frame's duration gives the rate, unless it is only one tick of the container's time base."""
    video = Timeline.of(np.array([2.0]), declared, duration)
    assert (video.fps, video.duration) == (fps, pytest.approx(2 + 1 / fps))


# Clocks that jump, stand still, go back or are missing


@pytest.mark.parametrize("fps", [120, 12])
def test_a_jump_takes_as_long_as_the_step_before_it(fps: int, tmp_path: Path):
    """A jump counts as long as the previous step, not as the declared rate, which FFmpeg guesses from a few frames."""
    base = Fraction(1, 90000)
    parts = [write(tmp_path / f"{at}.ts", even(15, fps, start=at), rate=fps, time_base=base) for at in (0, 5000)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert decode_video(path, EVERY_FRAME).timestamps == pytest.approx(even(30, fps), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("second_start", [5000, 0, 6.5])
def test_a_jump_of_a_broadcast_clock_is_passed_over(second_start: float, tmp_path: Path):
    """Two recordings in one file follow each other without a gap, whatever timestamp the second one starts with."""
    parts = [write(tmp_path / f"{at}.ts", even(150, 25, start=at)) for at in (30, second_start)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = decode_video(path)
    assert video.info.duration == pytest.approx(12, abs=0.05)
    assert video.timestamps == pytest.approx(range(12), abs=0.05)
    assert video.indices == [25 * second for second in range(12)]
    assert [frame.index for frame in stream_video(path, lambda duration: [1.5, 7.5])] == [37, 187]


def test_frames_may_share_a_time(tmp_path: Path):
    """If two frames have the same timestamp, the later one is on screen, and the other timestamps are unaffected."""
    times = even(60)
    times[40] = times[39]
    path = write(tmp_path / "src.mkv", even(60), options={"bf": "0"})

    def double(packets: list[av.Packet]) -> list[av.Packet]:
        packets[40].pts = packets[40].dts = packets[39].pts
        return packets

    video = decode_video(remux(path, tmp_path / "a.mkv", edit=double), EVERY_FRAME)
    assert video.timestamps == pytest.approx(times)
    assert decode_video(tmp_path / "a.mkv", FrameSampling(start=1.57, end=1.57)).indices == [40]


def test_missing_times_lie_evenly_between_those_that_there_are(tmp_path: Path):
    path = write(tmp_path / "a.ts", even(75), time_base=Fraction(1, 90000), options={"bf": "0"})
    path.write_bytes(without_times(path.read_bytes(), keep=3))
    video = decode_video(path, EVERY_FRAME)
    assert video.timestamps == pytest.approx(even(75), abs=1e-3)
    assert complete_times(np.array([np.nan, 1, np.nan, 3, np.nan])).tolist() == [0, 1, 2, 3, 4]
    assert complete_times(np.array([np.nan, np.nan, 0.5, 1.5])).tolist() == [0, 1, 2, 3]  # no room before 0
    assert complete_times(np.array([np.nan, np.nan, 5])) is None


def test_a_wrong_time_leaves_the_rate_to_go_by(tmp_path: Path):
    """A file with a wrong timestamp is timed by its frame rate, whichever frames are requested."""
    source = write(tmp_path / "src.mp4", even(200), time_base=Fraction(1, 25), options={"bf": "0", "g": "25"})
    path = remux_with_a_late_packet(source, tmp_path / "a.mkv")
    for sampling in (FrameSampling(end=2), FrameSampling(), EVERY_FRAME):
        info = decode_video(path, sampling).info
        assert (info.num_frames, info.fps, info.duration) == (200, 25, 8)


def test_the_clock_of_a_format_that_does_not_jump_may_not_go_back():
    jumping, strict = (FrameClock(0.5, 1.0, may_jump, fps=25) for may_jump in (True, False))
    assert [jumping.seconds(pts) for pts in (2, 3, 40, 40, 2)] == pytest.approx([0, 0.5, 1, 1, 1.5])
    at_once = FrameClock(0.5, 1.0, may_jump=True, fps=25)  # no step yet, so the declared rate is used
    assert [at_once.seconds(pts) for pts in (2, 40, 41)] == pytest.approx([0, 0.04, 0.54])
    assert [strict.seconds(pts) for pts in (2, 3, 3, 40)] == [0, 0.5, 0.5, 19]
    with pytest.raises(NoTimesError):
        strict.seconds(39)


def test_missing_frames_are_no_jump_of_the_clock():
    """A stretch of 20 s that can't be decoded is not taken for a clock jump, because its packets are continuous."""
    clock = FrameClock(1.0, 0.0, may_jump=True, fps=1)
    clock.seconds(0)
    for pts in (2, 1, 8, 5, 16, 20):  # in the order of decoding
        clock.reach(pts)
    assert [clock.seconds(pts) for pts in (20, 21)] == [20, 21]
    clock.reach(500)  # of a second recording
    assert [clock.seconds(pts) for pts in (22, 500, 501)] == [22, 23, 24]


# The same results for all requested frames


def assert_one_answer(path: Path, times: list[float], end: float) -> None:
    """Check that frame count, rate and duration do not depend on the requested frames, and match a plain loop."""
    last = times[-1]
    samplings = [EVERY_FRAME, *(FrameSampling(n, fps) for n in (1, 3) for fps in (1.0, 7.0))]
    samplings += [FrameSampling(1, start=last, end=last), FrameSampling(1, end=0)]
    videos = [decode_video(path, sampling) for sampling in samplings]
    assert {video.info for video in videos} == {videos[0].info}
    assert videos[0].info.num_frames == len(times)
    assert videos[0].timestamps == pytest.approx(times, abs=1e-5)
    assert videos[0].info.duration == pytest.approx(end, abs=0.003)
    streamed = [frame.info for frame in stream_video(path, lambda duration: [0.0, last])]
    assert set(streamed) == {videos[0].info}


@pytest.mark.parametrize("count", range(34, 42))
def test_a_file_cut_in_the_order_of_decoding(count: int, tmp_path: Path):
    """A file cut with `ffmpeg -t N -c copy`, which lacks some of the last B-frames, has consistent times."""
    options = {"bf": "3", "b_strategy": "0", "g": "30", "sc_threshold": "0"}
    source = write(tmp_path / "src.mp4", even(75), time_base=Fraction(1, 25), options=options)
    path = remux(source, tmp_path / "a.mp4", edit=lambda packets: packets[:count])
    times = [float(frame.time) for frame in decode_from_start(str(path))]
    assert_one_answer(path, times, times[-1] + 0.04)


@pytest.mark.parametrize("count", range(46, 52))
def test_an_edit_list_hides_the_last_frame(count: int, tmp_path: Path):
    """The frame that an edit list hides is not counted, even if it isn't the last one in decoding order."""
    fps, options = 24, {"bf": "2", "b_strategy": "0"}
    path = write(tmp_path / "a.mp4", even(count, fps), rate=fps, time_base=Fraction(1, fps), options=options)
    with av.open(str(path)) as container:  # the muxer's own edit starts at the first picture's media time
        first = 2 / fps if container.streams.video[0].codec_context.reorder_depth > 1 else 1 / fps
    set_edits(path, [(count / fps - 0.042, first)])
    times = [float(frame.time) for frame in decode_from_start(str(path))]
    assert len(times) == count - 1
    assert_one_answer(path, times, times[-1] + 1 / fps)


def test_damage_that_is_met_and_damage_that_is_not(tmp_path: Path):
    """In a damaged file, all timestamps stay known, and the previous frame replaces a lost one."""
    options = {"g": "25", "bf": "0"}
    path = write(tmp_path / "a.mp4", even(100), time_base=Fraction(1, 25), options=options)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        lost = list(container.streams.video[0].index_entries)[60]
    data[lost.pos : lost.pos + lost.size] = bytes(lost.size)
    path.write_bytes(data)
    intact = decode_video(path, FrameSampling(end=1))
    with pytest.warns(UserWarning, match=r"a\.mp4: damaged or cut off; \d+ frames of the 100"):
        touched = decode_video(path, FrameSampling(1, start=2.4, end=2.4))
    assert touched.info == intact.info
    assert (touched.info.num_frames, touched.info.duration) == (100, 4)
    assert touched.indices == [59]  # the previous frame stays on screen


def test_a_file_cut_off_is_the_same_before_the_cut_and_after(tmp_path: Path):
    path = write(
        tmp_path / "a.mp4", even(200), time_base=Fraction(1, 25), options={"g": "25"}, muxer={"movflags": "faststart"}
    )
    cut_bytes(path, 0.7)
    with pytest.warns(UserWarning, match="damaged or cut off"):
        infos = [decode_video(path, sampling).info for sampling in (FrameSampling(1), EVERY_FRAME)]
    assert infos[0] == infos[1]
    assert 50 < infos[0].num_frames < 200


# Every frame


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_every_frame_is_taken_once(suffix: str, tmp_path: Path):
    if suffix == "avi":
        times = even(30)
        path = write(tmp_path / "a.avi", times, codec="mpeg4", time_base=Fraction(1, 25))
    else:
        times = [0, 0.1, 0.2, 0.3, 5, 5.1, 5.2, 9]
        path = write(tmp_path / f"a.{suffix}", times)
    for clock in ("seconds", "released"):
        video = decode_video(path, FrameSampling(num_frames=None, fps=None, clock=clock))
        assert video.timestamps == pytest.approx(times)
    moment = decode_video(path, FrameSampling(num_frames=None, fps=None, start=times[2] + 0.01, end=times[5]))
    assert moment.indices == [2, 3, 4, 5]
