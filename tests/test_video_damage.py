"""Damage that a decoder doesn't report: all ways of reading a file still give the same frames."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support.corpus.writing import even, packets_of, remux, write
from support.video_files import decode_from_start
from ts2net.search.frame_stream import stream_video
from ts2net.video_bitstream_ts2net import Bitstream
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling

EVERY_FRAME = FrameSampling(None, None)
B_FRAMES = {"bf": "2", "b_strategy": "0", "g": "30"}


def every_way(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all frames `(frames, height, width, 3)`: decoded together, each alone, and as search streams them."""
    every = decode_video(path, EVERY_FRAME)
    alone = [decode_video(path, FrameSampling(1, start=time, end=time)).frames[0] for time in every.timestamps]
    streamed = [frame.rgb.numpy() for frame in stream_video(path, lambda duration: every.timestamps)]
    return every.frames.numpy(), np.stack(alone), np.stack(streamed)


@pytest.mark.slow
@pytest.mark.parametrize("lost", range(1, 12))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_frame_is_missing_that_others_refer_to(lost: int, suffix: str, tmp_path: Path):
    """Frames after a missing reference are exact, although H.264's concealment depends on non-reference frames."""
    source = write(tmp_path / f"src{suffix}", even(40), time_base=Fraction(1, 25), options=B_FRAMES)
    path = remux(source, tmp_path / f"a{suffix}", edit=lambda packets: packets[:lost] + packets[lost + 1 :])
    expected = np.stack([frame.to_ndarray(format="rgb24") for frame in decode_from_start(str(path))])
    for pictures in every_way(path):
        np.testing.assert_array_equal(pictures, expected)


@pytest.mark.parametrize(
    ("pix_fmt", "options"),
    [
        ("yuv420p", {}),
        ("yuv444p", {}),
        ("yuv420p10le", {}),
        ("yuv420p", {"x264-params": "cqm=jvt"}),  # scaling matrices precede the parsed fields
        ("yuv444p", {"x264-params": "cqm=jvt"}),
        ("yuv420p", {"x264-params": "tff=1"}),
        ("yuv420p", {"profile": "baseline", "bf": "0"}),
    ],
)
def test_a_healthy_file_lacks_no_reference(pix_fmt: str, options: dict[str, str], tmp_path: Path):
    """No missing reference is reported in an undamaged file, even after H.264's frame numbers wrap around."""
    path = write(
        tmp_path / "a.mp4", even(200), pix_fmt=pix_fmt, size=(64, 64), options=B_FRAMES | {"g": "90"} | options
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        bitstream = Bitstream("h264", stream.codec_context.extradata or b"")
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert all(bitstream.number(packet) for packet in packets)
    references = bitstream.references()
    assert not any(references.lack_one_before(packet) for packet in packets)
    used = [packet for packet in packets if not bitstream.is_disposable(packet)]
    references = bitstream.references()
    assert not any(references.lack_one_before(packet) for packet in used)
    references = bitstream.references()
    assert references.lack_one_before(used[0]) is False
    assert references.lack_one_before(used[2])


def test_sequence_parameters_that_break_off_leave_every_frame_to_the_decoder(tmp_path: Path):
    path = write(tmp_path / "a.mp4", even(10), options=B_FRAMES)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata or b""
        packets = [packet for packet in container.demux(stream) if packet.size]
    whole, broken = Bitstream("h264", extradata), Bitstream("h264", extradata[:11])
    assert any(map(whole.is_disposable, packets))
    assert not any(map(broken.is_disposable, packets))
    assert not any(map(broken.references().lack_one_before, packets))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_damaged_photo_is_the_same_each_time(suffix: str, tmp_path: Path):
    """A damaged JPEG frame is reproducible, although its decoder leaves the missing part uninitialized."""
    path = write(tmp_path / f"a{suffix}", even(20), codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25))
    data, photo = path.read_bytes(), packets_of(path)[10]
    path.write_bytes(data.replace(photo, photo[:-100] + b"\x15" * 50 + photo[-50:]))
    together, alone, streamed = every_way(path)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(streamed, together)
    assert len(together) == 20
