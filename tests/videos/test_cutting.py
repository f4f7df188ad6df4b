"""Cutting a moment out of a video copies the pictures from the keyframe before it, and the sound."""

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from support.video_files import decode_from_start, encoded, write_streams, write_video
from ts2net.video_source_ts2net import VideoDecodingError
from ts2net.videos.cutting import cut_video

GROUP = {"options": {"g": "12"}}


def pictures(source: Any) -> list[np.ndarray]:
    return [frame.to_ndarray(format="gray") for frame in decode_from_start(source)]


@pytest.mark.parametrize(
    ("name", "settings", "written"),
    [
        ("a.mp4", {"options": {"g": "12", "bf": "3"}}, "cut.mp4"),
        ("a.mkv", {"options": {"g": "12", "bf": "3"}}, "cut.mkv"),
        ("a.mpg", {"codec": "mpeg1video", **GROUP}, "cut.mkv"),
        ("a.avi", {"codec": "mpeg4", **GROUP}, "cut.mkv"),
    ],
)
def test_a_moment_is_copied_from_the_keyframe_before_it(
    tmp_path: Path, name: str, settings: dict[str, Any], written: str
):
    source = str(write_video(tmp_path / name, frames=120, **settings))
    file = cut_video(source, tmp_path / f"cut{Path(name).suffix}", 2.1, 3.2)
    assert file.name == written
    cut, whole = pictures(str(file)), pictures(source)
    (first,) = [number for number, picture in enumerate(whole) if np.array_equal(picture, cut[0])]
    assert first in range(51 - 24, 51)  # 2.1 s are 50.4 frames
    np.testing.assert_array_equal(cut, whole[first : first + len(cut)])
    assert 76 <= first + len(cut) <= 76 + 5  # 3.2 s are 76.8 frames; reordered frames are included


def test_sound_comes_along(tmp_path: Path):
    file = cut_video(str(write_streams(tmp_path / "a.mp4")), tmp_path / "cut.mp4", 0.2, 0.6)
    with av.open(str(file)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_what_a_container_cannot_hold_goes_into_matroska(tmp_path: Path):
    source = io.BytesIO(encoded(container="mp4", codec="mpeg4"))
    assert cut_video(source, tmp_path / "a.webm", 0, 1).name == "a.mkv"


@pytest.mark.parametrize("content", [b"no video", encoded(container="mp4", frames=24)])
def test_nothing_is_written_where_there_is_no_moment(tmp_path: Path, content: bytes):
    with pytest.raises(VideoDecodingError, match="not a video|nothing of it lies between 20 s and 24 s"):
        cut_video(content, tmp_path / "cut.mp4", 20, 24)
    assert not list(tmp_path.iterdir())
