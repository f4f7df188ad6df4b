"""Finds the subtitles of videos: files beside them with the same stem, and streams inside them."""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .sources import VideoFile

# After the stem: a language, and whom it is for, as players have it: `.srt`, `.en.srt`, `.pt-BR.forced.vtt`.
_ENDING = re.compile(
    r"(?:\.[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*)?(?:\.(?:forced|sdh|cc|hi|default))*\.(?:srt|vtt)", re.IGNORECASE
)


@dataclass(frozen=True)
class SubtitleSource:
    """Where words of a video are read from.

    Args:
        video: The video.
        path: A file beside it; `None` for the streams inside it.
    """

    video: VideoFile
    path: str | None = None

    @property
    def name(self) -> str:
        """For messages: the file that holds the subtitles."""
        return self.video.video_id if self.path is None else self.path


@dataclass(frozen=True)
class Subtitles:
    """The subtitles that a video has.

    Args:
        sources: The video itself, which may hold some, and the files beside it.
        signature: Changes when the video does, or when a file beside it comes, goes or changes.
    """

    sources: tuple[SubtitleSource, ...]
    signature: str


def find_subtitles(videos: Iterable[VideoFile]) -> dict[str, Subtitles]:
    """Find the subtitles of videos.

    A link counts if it leads to a file in the folder of the video. Members of tar files have no files beside them.

    Args:
        videos: The videos.

    Returns:
        By video id.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    return {video.video_id: _subtitles(video, folders) for video in videos}


def _subtitles(video: VideoFile, folders: dict[str, dict[str, list[str]]]) -> Subtitles:
    sources, parts = [SubtitleSource(video)], [video.signature]
    if video.member is None:
        folder, stem = os.path.dirname(video.path), Path(video.path).stem
        if folder not in folders:
            folders[folder] = _endings(folder)
        for ending in folders[folder].get(stem, ()):
            path = os.path.join(folder, stem + ending)
            status = _status(path, video.path)
            if status is not None:
                sources.append(SubtitleSource(video, path))
                parts.append(f"{ending}:{status.st_size}-{status.st_mtime_ns}")
    return Subtitles(tuple(sources), "/".join(parts))


def _endings(folder: str) -> dict[str, list[str]]:
    """What follows the stem of a video in the subtitle files of a folder, by stem.

    Nothing if the folder can't be read, which the search for videos tells.
    """
    endings: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith((".srt", ".vtt")))
    except OSError:
        return {}
    for name in names:
        dots = [position for position, char in enumerate(name) if char == "."]
        for dot in dots:
            if _ENDING.fullmatch(name, dot):
                endings[name[:dot]].append(name[dot:])
    return endings


def _status(path: str, video: str) -> os.stat_result | None:
    """Of a subtitle file; `None` if it is no regular file, or a link that leads out of the folders of the video."""
    folders = {os.path.dirname(os.path.realpath(video)), os.path.realpath(os.path.dirname(video))}
    try:
        status = os.stat(path)
    except OSError:
        return None
    is_file = stat.S_ISREG(status.st_mode)
    return status if is_file and os.path.dirname(os.path.realpath(path)) in folders else None
