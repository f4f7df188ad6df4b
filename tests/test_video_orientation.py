"""Rotation and flip of frames are applied, whatever other side data the frames have."""

import gc
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from PIL import Image

from support.corpus.writing import even, jpeg, write
from support.decoded_videos import assert_every_frame
from support.video_files import decode_from_start
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_orientation_ts2net import orientation


def jpegs(path: Path, exif: Image.Exif, count: int = 6) -> Path:
    """Write the file that `ffmpeg -i photo%03d.jpg -c copy` writes."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(count):
            packet = av.Packet(jpeg(number + 1, exif=exif))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 2)
            output.mux(packet)
    return path


def test_pyav_still_has_no_name_for_some_side_data():
    """Once PyAV knows these types, the code that removes such side data from a frame can be deleted."""
    assert not {28, 29, 31} & {kind.value for kind in SideDataType}


def test_photos_with_exif_data_are_frames(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F] = "Brinno"
    assert_every_frame(jpegs(tmp_path / "a.avi", exif), count=6)


@pytest.mark.parametrize("turned", range(1, 9))
def test_the_orientation_of_photos_is_applied(turned: int, tmp_path: Path):
    """All eight EXIF orientations are applied as by Pillow, despite side data that PyAV can't read."""
    exif = Image.Exif()
    exif[0x0112] = turned
    path = jpegs(tmp_path / "a.avi", exif, count=1)
    frame = decode_video(path).frames[0].numpy()
    (stored,) = decode_from_start(str(path))
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    picture = stored.to_image()
    expected = picture.transpose(transposed[turned]) if turned > 1 else picture
    np.testing.assert_array_equal(frame, np.asarray(expected))
    assert orientation(stored).transpose == (turned >= 5)


def test_a_frame_whose_side_data_is_read_is_free_at_once(tmp_path: Path):
    """Reading side data leaves no reference cycle, so the frame's memory doesn't wait for the garbage collector."""
    (frame, *_) = decode_from_start(str(write(tmp_path / "a.mp4", even(3), rotation=90)))
    before = sys.getrefcount(frame)
    gc.disable()
    try:
        assert orientation(frame).transpose
        assert sys.getrefcount(frame) == before
    finally:
        gc.enable()
