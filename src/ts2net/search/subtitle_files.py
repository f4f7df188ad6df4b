"""Finds the subtitles of videos: files beside them with the same stem, also in tar files, and streams inside them."""

import io
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..videos.finding import SUBTITLE_SUFFIXES
from .sources import SubtitleMember, VideoFile

# After the stem: a language, and whom it is for, as players have it: `.srt`, `.en.srt`, `.pt-BR.forced.vtt`.
_ENDING = re.compile(
    r"(?:\.[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*)?(?:\.(?:forced|sdh|cc|hi|default))*\.(?:srt|vtt)", re.IGNORECASE
)


@dataclass(frozen=True)
class SubtitleSource:
    """Where words of a video are read from.

    Args:
        video: The video.
        beside: A file beside it, or such a member of its tar file; `None` for the streams inside it.
    """

    video: VideoFile
    beside: str | SubtitleMember | None = None

    @property
    def name(self) -> str:
        """For messages: the file that holds the subtitles."""
        if isinstance(self.beside, SubtitleMember):
            return self.video.video_id + self.beside.ending
        return self.video.video_id if self.beside is None else self.beside

    def open(self) -> BinaryIO:
        """The bytes of the file beside the video.

        Raises:
            OSError: If it can't be opened.
        """
        if isinstance(self.beside, SubtitleMember):
            return self.video.open_subtitles(self.beside)
        return cast(BinaryIO, io.FileIO(self.name))


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

    A link counts if it leads to a file in the folder of the video.

    Args:
        videos: The videos.

    Returns:
        By video id.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    return {video.video_id: _subtitles(video, folders) for video in videos}


def subtitle_ending(name: str, stem: str) -> str | None:
    """What follows the stem of a video in the name of a subtitle file, such as `".en.srt"`; `None` if it is none."""
    is_of_video = name.startswith(stem) and _ENDING.fullmatch(name, len(stem))
    return name[len(stem) :] if is_of_video else None


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
    for member in video.subtitles:
        if _ENDING.fullmatch(member.ending):
            sources.append(SubtitleSource(video, member))
            parts.append(f"{member.ending}:{member.size}-{member.offset}")
    return Subtitles(tuple(sources), "/".join(parts))


def _endings(folder: str) -> dict[str, list[str]]:
    """What follows the stem of a video in the subtitle files of a folder, by stem.

    Nothing if the folder can't be read, which the search for videos tells.
    """
    endings: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(SUBTITLE_SUFFIXES))
    except OSError:
        return {}
    for name in names:
        for dot in (position for position, char in enumerate(name) if char == "."):
            if subtitle_ending(name, name[:dot]) is not None:
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
