"""The video of one clip, made in a worker process: taken as it is, re-encoded or rendered."""

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
    """The outcome for a clip's video.

    Attributes:
        video: Its bytes, or the file that has them.
        is_whole: The video is more than the clip's moment.
        damage: What can't be read of it.
        broken: Why it can't be used.
        may_pass: It may be readable another time.
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
        source: The video's file, or what renders it.
        reencode: Make a file small and keep only the clip's moment. Otherwise it is only tried whether it can be read.
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
    """Remove this machine's folders: a manifest may be published."""
    return message.removeprefix(f"{source}: ").replace(str(source), source.name)
