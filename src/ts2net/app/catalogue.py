"""The videos of an index as visitors see them: names without the server's folders, and filters by words."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..pages.rendering import printable
from ..search.records import StoredVideo


@dataclass(frozen=True)
class ListedVideo:
    """A video as visitors see it.

    Args:
        video_id: Id of the video in the index, which visitors do not see.
        name: Path relative to the folder that contains all videos; for an added video only the file name.
        seconds: Duration in seconds.
        metadata: Names and values.
        added: Whether a visitor added the video.
    """

    video_id: str
    name: str
    seconds: float
    metadata: Mapping[str, str]
    added: bool


class Catalogue:
    """All videos of an index, sorted by name.

    Visitors see the folders below the innermost folder that contains all videos, but neither this folder nor its
    parents. If the videos have only the root of the file system in common, visitors see the folder of each file.

    Args:
        videos: All videos of an index.
        uploads: The folder with the videos that visitors added, if any.
    """

    def __init__(self, videos: Sequence[StoredVideo], uploads: Path | None) -> None:
        inside = None if uploads is None else os.path.abspath(uploads) + os.sep
        added = {video.video_id for video in videos if inside is not None and video.video_id.startswith(inside)}
        root = _common_folder([_folder(video.video_id) for video in videos if video.video_id not in added])
        self.videos = sorted(
            (
                ListedVideo(
                    video.video_id,
                    _name(video.video_id) if video.video_id in added else _shown(video.video_id, root),
                    video.duration,
                    video.metadata,
                    video.video_id in added,
                )
                for video in videos
            ),
            key=lambda video: (video.name.casefold(), video.video_id),
        )
        self._names = {video.video_id: video.name for video in self.videos}
        self._searched: list[tuple[str, dict[str, str]]] | None = None

    def name(self, video_id: str) -> str:
        """Return the name of a video for visitors."""
        return self._names.get(video_id) or _name(video_id)

    def matching(self, filter: str) -> list[ListedVideo]:
        """Return the videos that match a filter.

        Args:
            filter: Words, or phrases in quotes. Each has to occur in the name, including its folders, or in a value
                of the metadata; `league=women` searches only the metadata `league`. Case and stars are ignored.
        """
        terms = [(name.strip(), value) for name, value in map(_term, _words(filter))]
        if not terms:
            return self.videos
        if self._searched is None:
            self._searched = [
                (_folded(video.name), {_folded(name): _folded(value) for name, value in video.metadata.items()})
                for video in self.videos
            ]
        return [
            video
            for video, (path, metadata) in zip(self.videos, self._searched, strict=True)
            if all(_fits(term, path, metadata) for term in terms)
        ]


def _fits(term: tuple[str, str], path: str, metadata: Mapping[str, str]) -> bool:
    name, value = term
    if name and name in metadata:
        return value in metadata[name]
    word = f"{name}={value}" if name else value
    return word in path or any(word in field for field in metadata.values())


def _words(filter: str) -> list[str]:
    """Split a filter into words. A star only separates words, so that a path pattern works too."""
    pairs = re.findall(r'"([^"]*)"|([^\s*"]+)', _folded(filter))
    return [phrase or word for phrase, word in pairs if phrase or word]


def _term(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    return (name, value) if sign else ("", word)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _split(video_id: str) -> tuple[str, str]:
    """Split a video id into the file and the member of an archive, which is empty for other files."""
    archive, *member = re.split(r"(?<=\.tar)#", video_id, maxsplit=1, flags=re.IGNORECASE)
    return archive.replace(os.sep, "/"), member[0] if member else ""


def _folder(video_id: str) -> str:
    return os.path.dirname(_split(video_id)[0])


def _name(video_id: str) -> str:
    file, member = _split(video_id)
    return printable(member or file.rpartition("/")[2])


def _shown(video_id: str, root: str) -> str:
    folder = _folder(video_id)
    parts = [part for part in folder.removeprefix(root).split("/") if part]
    if root.strip("/") == "":  # no common folder: only the innermost folder is shown
        parts = parts[-1:]
    return "/".join([*map(printable, parts), _name(video_id)])


def _common_folder(folders: Sequence[str]) -> str:
    try:
        return os.path.commonpath(set(folders)).replace(os.sep, "/")
    except ValueError:  # no videos, or videos on several drives
        return ""
