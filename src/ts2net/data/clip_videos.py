"""Make the video of one clip in a worker process: keep the file as it is, re-encode it, or render it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av

from ..benchmarks import Row
from ..errors import may_pass, one_line
from ..video_decoding_ts2net import decode_video
from ..video_sampling_ts2net import FrameSampling
from ..videos.reencoding import reencode_video


@dataclass(frozen=True)
class ClipVideo:
    """Result of making a clip's video.

    Attributes:
        video: The bytes of the video, or its file.
        is_whole: Whether the video was not cut to the clip's moment.
        damage: Description of the part that can't be read, or `None`.
        broken: Reason why the video can't be used, or `None`.
        may_pass: Whether another attempt may succeed.
    """

    video: bytes | Path = b""
    is_whole: bool = True
    damage: str | None = None
    broken: str | None = None
    may_pass: bool = False


def make_video(row: Row, source: Path | Callable[[], bytes], reencode: bool) -> ClipVideo:
    """Make the video of a clip.

    Args:
        row: The clip.
        source: The video's file, or a function that renders the video.
        reencode: Whether to re-encode a file to a small one that holds only the clip's moment. Otherwise the file is
            only tested: one frame is decoded.
    """
    if not isinstance(source, Path):
        return ClipVideo(source())
    try:
        if reencode:
            small = reencode_video(source, row.start, row.end)
            return ClipVideo(small.video, is_whole=False, damage=small.damage)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            decode_video(source, FrameSampling(num_frames=1, start=row.start, end=row.end), num_threads=1)
        return ClipVideo(source, damage=_without_folder(str(caught[0].message), source) if caught else None)
    except (ValueError, OSError, MemoryError, av.FFmpegError) as error:
        return ClipVideo(broken=_without_folder(one_line(error), source), may_pass=may_pass(error))


def _without_folder(message: str, source: Path) -> str:
    """Remove the local folder from an error message, because a manifest may be published."""
    return message.removeprefix(f"{source}: ").replace(str(source), source.name)
