"""Cropping stored in the container is applied by the processor's decoder, by search's stream and by re-encoding."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

from support.corpus.writing import change_box, even, write
from support.video_files import decode_from_start
from ts2net.search.frame_stream import stream_video
from ts2net.video_decoding_ts2net import decode_video
from ts2net.videos.reencoding import reencode_video

TOP, BOTTOM, LEFT, RIGHT = 4, 12, 10, 6  # of 64 x 48


def cropped_mp4(folder: Path, aperture: tuple[int, ...], **settings: object) -> Path:
    path = write(folder / "a.mp4", even(10), options={"bf": "0"}, **settings)  # type: ignore[arg-type]

    def add(table: bytes) -> bytes:
        box = struct.pack(">I4s8i", 40, b"clap", *aperture)
        size = int.from_bytes(table[8:12], "big")
        return table[:8] + (size + len(box)).to_bytes(4, "big") + table[12:] + box

    path.write_bytes(change_box(path.read_bytes(), ["moov", "trak", "mdia", "minf", "stbl", "stsd"], add))
    return path


def cropped_mkv(folder: Path, crops: dict[int, int]) -> Path:
    """Insert crop elements into a Matroska file. Element sizes are written with 8 bytes, which all readers accept."""
    path = write(folder / "a.mkv", even(10), options={"bf": "0"}, muxer={"live": "1"})
    added = b"".join(kind.to_bytes(2, "big") + b"\x82" + size.to_bytes(2, "big") for kind, size in crops.items())

    def grown(data: bytes, kinds: tuple[int, ...]) -> bytes:
        output, position = b"", 0
        while position < len(data):
            id_bytes = 9 - data[position].bit_length()
            kind = int.from_bytes(data[position : position + id_bytes], "big")
            head = position + id_bytes
            size_bytes = 9 - data[head].bit_length()
            size = int.from_bytes(data[head : head + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
            is_open = size == (1 << 7 * size_bytes) - 1
            content = data[head + size_bytes :] if is_open else data[head + size_bytes :][:size]
            if kinds and kind == kinds[0]:
                content = grown(content, kinds[1:]) if kinds[1:] else content + added
                header = b"\x01" + (b"\xff" * 7 if is_open else len(content).to_bytes(7, "big"))
                return output + kind.to_bytes(id_bytes, "big") + header + content + data[head + size_bytes + size :]
            output += data[position : head + size_bytes] + content
            position = head + size_bytes + len(content)
        return output

    path.write_bytes(grown(path.read_bytes(), (0x18538067, 0x1654AE6B, 0xAE, 0xE0)))
    return path


def assert_cropped(path: Path) -> None:
    whole = [frame.to_ndarray(format="rgb24") for frame in decode_from_start(str(path))]
    expected = whole[0][TOP : 48 - BOTTOM, LEFT : 64 - RIGHT]
    video = decode_video(path)
    assert (video.info.width, video.info.height) == (48, 32)
    np.testing.assert_array_equal(video.frames[0].numpy(), expected)
    streamed = next(stream_video(path, lambda duration: [0.0]))
    np.testing.assert_array_equal(streamed.rgb.numpy(), expected)
    small = decode_video(reencode_video(path).video).frames[0].numpy()
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < 6


def test_the_clean_aperture_of_an_mp4(tmp_path: Path):
    """The clean aperture, given by its size and the offset of its centre, is applied."""
    assert_cropped(cropped_mp4(tmp_path, (48, 1, 64, 2, 2, 1, -4, 1)))


def test_the_pixel_crop_of_a_matroska_file(tmp_path: Path):
    assert_cropped(cropped_mkv(tmp_path, {0x54AA: BOTTOM, 0x54BB: TOP, 0x54CC: LEFT, 0x54DD: RIGHT}))


def test_a_crop_that_leaves_nothing_is_none(tmp_path: Path):
    for aperture in [(0, 1, 10, 1, 0, 1, 0, 1), (48, 0, 32, 1, 0, 1, 0, 1), (48, 1, 32, 1, 900, 1, 0, 1)]:
        assert decode_video(cropped_mp4(tmp_path, aperture)).info.width == 64


def test_pixels_of_a_cropped_picture_become_square(tmp_path: Path):
    path = cropped_mp4(tmp_path, (48, 1, 32, 1, 2, 1, -4, 1), aspect=Fraction(4, 3))
    info = decode_video(path).info
    assert (info.width, info.height) == (64, 32)
