"""Find the subtitles of videos: files beside them with the same stem, also in tar files, and streams inside them."""

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

# After the stem: a language and a kind, as players expect them: `.srt`, `.en.srt`, `.pt-BR.forced.vtt`.
_ENDING = re.compile(
    r"(?:\.[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*)?(?:\.(?:forced|sdh|cc|hi|default))*\.(?:srt|vtt)", re.IGNORECASE
)


@dataclass(frozen=True)
class SubtitleSource:
    """A source of the subtitles of a video.

    Args:
        video: The video.
        beside: A file beside the video, or beside it in its tar file; `None` for the streams inside the video.
    """

    video: VideoFile
    beside: str | SubtitleMember | None = None

    @property
    def name(self) -> str:
        """The file that contains the subtitles, for messages."""
        if isinstance(self.beside, SubtitleMember):
            return self.video.video_id + self.beside.ending
        return self.video.video_id if self.beside is None else self.beside

    def open(self) -> BinaryIO:
        """Open the file beside the video.

        Raises:
            OSError: If it can't be opened.
        """
        if isinstance(self.beside, SubtitleMember):
            return self.video.open_subtitles(self.beside)
        return cast(BinaryIO, io.FileIO(self.name))


@dataclass(frozen=True)
class Subtitles:
    """The subtitles of a video.

    Args:
        sources: The video itself, which may contain subtitles, and the files beside it.
        signature: Changes when the video changes, or when a subtitle file beside it is added, removed or changed.
    """

    sources: tuple[SubtitleSource, ...]
    signature: str


def find_subtitles(videos: Iterable[VideoFile]) -> dict[str, Subtitles]:
    """Find the subtitles of videos.

    A link is followed only to a file in the folder of the video.

    Args:
        videos: The videos.

    Returns:
        The subtitles by video id.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    return {video.video_id: _subtitles(video, folders) for video in videos}


def subtitle_ending(name: str, stem: str) -> str | None:
    """Return the part of a subtitle file's name after a video's stem, such as `".en.srt"`; `None` for other files."""
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
    """Return the parts of the names of a folder's subtitle files after each possible stem, by stem.

    Empty if the folder can't be read, which the search for videos reports.
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
    """Stat a subtitle file; `None` if it is no regular file, or a link that leads out of the folder of the video."""
    folders = {os.path.dirname(os.path.realpath(video)), os.path.realpath(os.path.dirname(video))}
    try:
        status = os.stat(path)
    except OSError:
        return None
    is_file = stat.S_ISREG(status.st_mode)
    return status if is_file and os.path.dirname(os.path.realpath(path)) in folders else None
