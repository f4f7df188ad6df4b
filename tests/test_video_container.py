"""Container features: metadata never costs a picture, pixels become square, and only real damage is reported."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from support.corpus.writing import even, insert_before_slices, write
from support.decoded_videos import EVERY_FRAME, assert_every_frame
from support.tiled_heic import tiled_heic
from support.video_files import decode_from_start
from ts2net.video_container_ts2net import MAX_PIXELS, VideoReader
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_source_ts2net import VideoDecodingError, open_source
from ts2net.video_tables_ts2net import table_from_packets
from ts2net.videos.reencoding import reencode_video

# Metadata


def test_an_enhancement_layer_leaves_the_picture(tmp_path: Path):
    """Frames with LCEVC enhancement data, a message in front of each H.264 picture, are decoded."""
    options = {"bf": "0", "g": "5", "x264-params": "aud=1"}
    path = write(tmp_path / "a.h264", even(10, 5), rate=5, time_base=Fraction(1, 5), options=options)
    payload = b"\xb4\x00\x50\x00" + b"\x01" * 20
    message = b"\x06" + bytes([4, len(payload)]) + payload + b"\x80"
    path.write_bytes(insert_before_slices(path.read_bytes(), message))
    assert_every_frame(path, count=10)


@pytest.mark.parametrize("name", ["matrix_coefficients", "transfer_characteristics", "colour_primaries"])
@pytest.mark.parametrize("value", [0, 3, 8, 14, 250])
def test_unknown_colours_leave_the_picture(name: str, value: int, tmp_path: Path):
    """Reserved, rare and unspecified colour metadata does not prevent decoding that FFmpeg can do."""
    source = write(tmp_path / "src.mp4", even(5), options={"bf": "0"})
    path = tmp_path / "a.mp4"
    with av.open(str(source)) as input, av.open(str(path), "w") as output:
        stream = input.streams.video[0]
        copy = output.add_stream_from_template(stream)
        change = av.BitStreamFilterContext(f"h264_metadata={name}={value}", stream, copy)
        for packet in input.demux(stream):
            for changed in change.filter(packet if packet.size else None):
                changed.stream = copy
                output.mux(changed)
    reference = decode_from_start(str(path))
    try:
        expected = [frame.to_ndarray(format="rgb24") for frame in reference]
    except av.FFmpegError:
        with pytest.raises(VideoDecodingError, match=r"a\.mp4: its yuv420p frames can't be converted to RGB"):
            decode_video(path)
        return
    np.testing.assert_array_equal(decode_video(path, EVERY_FRAME).frames.numpy(), np.stack(expected))


# Damage


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_edit_list_that_trims_is_no_damage(codec: str, tmp_path: Path):
    times = [number / 24 - 7 / 24 for number in range(60)]
    path = write(tmp_path / "a.mp4", times, codec=codec, rate=24, time_base=Fraction(1, 24), options={"g": "12"})
    assert_every_frame(path, count=53)


@pytest.mark.parametrize("start", [0, 0.4, 0.6, 3])
@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_late_start_is_no_damage(suffix: str, start: float, tmp_path: Path):
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = write(tmp_path / f"a.{suffix}", even(50, start=start), codec=codec)
    assert_every_frame(path, count=50)
    with open_source(path) as file, VideoReader(file, MAX_PIXELS) as reader:
        assert table_from_packets(reader) is not None  # so it isn't decoded as a whole


def test_an_empty_chunk_of_an_avi_is_no_damage(tmp_path: Path):
    """An empty AVI chunk repeats the previous frame. The header counts it, but it is not a missing frame."""
    path = write(tmp_path / "a.avi", [0, 0.04, 0.08, 0.2, 0.24], codec="mpeg4", time_base=Fraction(1, 25))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 5
    assert_every_frame(path, count=5)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("a.mp4", {"muxer": {"movflags": "faststart"}}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4"}),
    ],
)
def test_a_file_shorter_than_it_says_is_cut_off(file: str, options: dict, tmp_path: Path):
    path = write(tmp_path / file, even(100), **options)
    for share, is_cut_off in [(1.0, False), (0.9, True), (0.5, True)]:
        short = tmp_path / f"short-{share}-{file}"
        short.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with open_source(short) as source, VideoReader(source, MAX_PIXELS) as reader:
            assert reader.is_cut_off() == is_cut_off, share


def test_a_matroska_that_was_streamed_does_not_say_how_long_it_is(tmp_path: Path):
    path = write(tmp_path / "a.mkv", even(50), muxer={"live": "1"})
    with open_source(path) as file, VideoReader(file, MAX_PIXELS) as reader:
        assert not reader.is_cut_off()


# Shown pictures


@pytest.mark.parametrize(
    ("aspect", "shown"),
    [
        (Fraction(4, 3), (96, 48)),
        (Fraction(8, 9), (72, 54)),
        (Fraction(1, 2), (72, 96)),
        (Fraction(100), (72, 48)),  # a mistake
    ],
)
@pytest.mark.parametrize("rotation", [0, 90])
def test_pixels_become_square(aspect: Fraction, shown: tuple[int, int], rotation: int, tmp_path: Path):
    """The longer side of the pixels is scaled up as in a browser, before the rotation is applied."""
    path = write(tmp_path / "a.mp4", even(5), size=(72, 48), aspect=aspect, rotation=rotation)
    video = decode_video(path)
    width, height = shown[::-1] if rotation else shown
    assert (video.info.width, video.info.height) == (width, height)
    assert video.frames.shape[1:3] == (height, width)
    expected = decode_from_start(str(path))[0].reformat(*shown, "rgb24").to_ndarray()
    np.testing.assert_array_equal(video.frames[0].numpy(), np.rot90(expected, rotation // 90))
    with av.open(io.BytesIO(reencode_video(path).video)) as container:
        stream = container.streams.video[0]
        assert stream.width / stream.height == pytest.approx(width / height, rel=0.03)


def test_pixels_that_become_too_many_are_refused(tmp_path: Path):
    path = write(tmp_path / "a.mp4", even(5), size=(64, 48), aspect=Fraction(4))
    with pytest.raises(VideoDecodingError, match=r"a\.mp4: frames of 256x48, expected at most 5000 pixels"):
        decode_video(path, max_pixels=5000)


def test_a_picture_in_tiles_is_refused(tmp_path: Path):
    """A tiled HEIC is refused, because one tile would be taken for the picture."""
    path = tmp_path / "a.heic"
    path.write_bytes(tiled_heic(rows=2, columns=3))
    with pytest.raises(VideoDecodingError, match=r"a\.heic: a picture made of 6 tiles, which can't be put together"):
        decode_video(path)


def test_what_is_no_video_is_named(tmp_path: Path):
    for name, message in [("a.webp", "a WebP picture or animation"), ("a.png", "single images are refused")]:
        pictures = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in (0, 100, 200)]
        more = {"save_all": True, "append_images": pictures[1:], "duration": 100} if name == "a.webp" else {}
        pictures[0].save(tmp_path / name, **more)
        for read in (decode_video, reencode_video):
            with pytest.raises(VideoDecodingError, match=f"{name}: .*{message}"):
                read(tmp_path / name)
