"""Find the videos of files, folders, patterns and shards, and open them.

- The id of a video is the absolute path of its file; for a member of a tar file, that path, `#` and the clip's id.
- Members of a tar file are read in place. Nothing is extracted, so the name of a member never becomes a path.
"""

import errno
import glob
import hashlib
import io
import json
import os
import re
import stat
import tarfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote

from ..data.manifest import Manifest
from ..errors import one_line
from ..videos.broken import BrokenVideo
from ..videos.finding import SUBTITLE_SUFFIXES, VIDEO_SUFFIXES, walk_files

_MAX_JSON_BYTES = 2**20
_BLOCK = 2**20  # bytes read at a time
_LEADS_OUT = "a link that leads out of the folder; --follow-links follows it"


@dataclass(frozen=True)
class SubtitleMember:
    """A subtitle file in a tar file, beside a video whose stem it has.

    Args:
        ending: The part of the name after the stem.
        offset: Byte of the tar file at which it begins.
        size: Size in bytes.
    """

    ending: str
    offset: int
    size: int


@dataclass(frozen=True)
class VideoFile:
    """A video that may be indexed: a file, or a part of one.

    Args:
        video_id: The path of its file; for a member of a tar file that path, `#` and the id of the clip.
        signature: Signature of the file, which changes when the file changes.
        path: Path of the file.
        offset: Byte of the file at which the video begins.
        size: Size of the video in bytes.
        member: Id of the clip, if the video is a member of a tar file.
        start: Second at which the clip begins, if it is not the whole video.
        end: Second at which it ends.
        metadata: Names and values, by which searches filter.
        subtitles: Subtitle files beside the video, if it is a member of a tar file.
    """

    video_id: str
    signature: str
    path: str
    offset: int
    size: int
    member: str | None = None
    start: float | None = None
    end: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    subtitles: tuple[SubtitleMember, ...] = ()

    def open(self) -> BinaryIO:
        """Open the bytes of the video as a seekable file."""
        file = io.FileIO(self.path)
        if self.member is None:
            return cast(BinaryIO, file)
        return cast(BinaryIO, _Slice(file, self.offset, self.size, self.video_id))

    def open_subtitles(self, member: SubtitleMember) -> BinaryIO:
        """Open a subtitle file beside the video in its tar file."""
        name = self.video_id + member.ending
        return cast(BinaryIO, _Slice(io.FileIO(self.path), member.offset, member.size, name))


class _Slice(io.RawIOBase):
    """A part of a file as a file object."""

    def __init__(self, file: io.FileIO, offset: int, size: int, name: str) -> None:
        self._file, self._offset, self._size, self._position = file, offset, size, 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(self._size - self._position, 0)]
        self._file.seek(self._offset + self._position)
        count = self._file.readinto(view) or 0
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class FoundVideos:
    """Videos, and files that look like videos but can't be used."""

    videos: list[VideoFile]
    broken: list[BrokenVideo]


def find_videos(sources: Iterable[str | os.PathLike[str]], *, follow_links: bool = False) -> FoundVideos:
    """Find the videos of some sources.

    Args:
        sources: Files, folders with their subfolders, patterns such as `clips/**/*.mp4`, and tar files such as
            `ts2net prepare` writes. In a folder, videos and tar files are recognised by their extensions; hidden files
            and links to other folders are skipped. Files of a pattern have to be in the folder with which it begins.
        follow_links: Also follow links to folders, and links that lead out of a folder. A folder is entered once, even
            if several links lead to it.

    Returns:
        Each video once, sorted by id, and the files and folders that can't be read.

    Raises:
        FileNotFoundError: If a file or folder does not exist, or no file matches a pattern.
        ValueError: If `sources` is empty.
    """
    videos: dict[str, VideoFile] = {}
    broken: dict[str, BrokenVideo] = {}
    source = None
    for source in sources:
        for video in _in_source(os.fspath(source), follow_links):
            if isinstance(video, VideoFile):
                videos[video.video_id] = video
            else:
                broken[video.video_id] = video
    if source is None:
        raise ValueError("nothing to index: expected at least one file, folder or pattern")
    return FoundVideos(
        [videos[video_id] for video_id in sorted(videos)],
        [broken[video_id] for video_id in sorted(broken.keys() - videos.keys())],
    )


def locate(video_id: str) -> VideoFile | None:
    """Return the video of an id from `find_videos`, or `None` if it is gone."""
    if os.path.isfile(video_id):
        videos: Iterable[VideoFile | BrokenVideo] = _in_file(video_id)
        return next((video for video in videos if isinstance(video, VideoFile)), None)
    video = _members_of(_archive_of(video_id)).get(video_id)
    return video if isinstance(video, VideoFile) else None


def no_video_in(sources: Sequence[str | os.PathLike[str]]) -> str:
    """Return the message for sources without videos, with the likely reason if one is found."""
    links: list[Path] = []
    for folder in filter(os.path.isdir, sources):
        deque(walk_files(Path(folder), skipped=links), maxlen=0)
    reason = f": {links[0]} is a link to a folder; --follow-links follows it" if links else ""
    return f"there is no video in {', '.join(os.fspath(source) for source in sources)}{reason}"


def present_files(video_ids: Iterable[str]) -> list[str]:
    """Return the files of videos, or the tar files that contain them, each once. Missing files are left out."""
    files = (video_id if os.path.isfile(video_id) else _archive_of(video_id) for video_id in video_ids)
    return list(dict.fromkeys(file for file in files if file is not None))


def content_digest(file: VideoFile) -> str:
    """Return a digest of the bytes of a video, which doesn't depend on its path or name.

    Raises:
        OSError: If it can't be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with file.open() as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def size_of_file(signature: str) -> int | None:
    """Return the size in the signature of a file; `None` for the signature of a member of a tar file."""
    size, _, rest = signature.partition("-")
    return int(size) if size.isdigit() and rest.isdigit() else None


def missing_videos(video_ids: Iterable[str]) -> list[str]:
    """Return the videos that are gone, sorted. A video that exists but can't be accessed is not missing."""
    return [
        video_id
        for video_id in sorted(video_ids)
        if _is_gone(video_id) and video_id not in _members_of(_archive_of(video_id))
    ]


def holds_videos(path: str) -> bool:
    """Whether a path is a folder or an archive, and not a video."""
    return os.path.isdir(path) or path.lower().endswith(".tar")


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for an invalid path
        return True
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG  # a clip's id may be of any length
    return False


def _archive_of(video_id: str) -> str | None:
    """Return the tar file of which a video is a member, if it exists. A clip's id may itself contain `.tar#`."""
    ends = (match.end() - 1 for match in re.finditer(r"\.tar#", video_id, re.IGNORECASE))
    return next((video_id[:end] for end in ends if os.path.isfile(video_id[:end])), None)


def _members_of(archive: str | None) -> Mapping[str, VideoFile | BrokenVideo]:
    """Return the videos of a tar file, by id. The file is read again after it has changed."""
    if archive is None:
        return {}
    try:
        status = os.stat(archive)
    except OSError:
        return {}
    return _list_members(archive, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)  # a browser requests many parts of each video that it plays
def _list_members(archive: str, modified: int, size: int) -> Mapping[str, VideoFile | BrokenVideo]:
    return {video.video_id: video for video in _in_tar(archive)}


def _in_source(source: str, follow_links: bool) -> Iterator[VideoFile | BrokenVideo]:
    """Yield the videos of a file, a folder or a pattern. A quoted pattern is not expanded by the shell."""
    if os.path.lexists(source):
        yield from _in_path(os.path.abspath(source), follow_links)
        return
    if not glob.has_magic(source):
        raise FileNotFoundError(f"{source}: no such file or folder")
    # A link to a parent folder repeats its files under ever longer paths; keep the shortest.
    paths: dict[str, str] = {}
    for path in sorted(glob.glob(source, recursive=True), key=lambda path: (len(path), path)):
        paths.setdefault(os.path.realpath(path), os.path.abspath(path))
    if not paths:
        raise FileNotFoundError(f"{source}: no file matches this pattern")
    folder = os.path.dirname(source)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    root = os.path.realpath(folder)
    for target, path in paths.items():
        if follow_links or os.path.commonpath([root, target]) == root:
            yield from _in_path(path, follow_links)
        else:
            yield BrokenVideo(path, _LEADS_OUT)


def _in_path(path: str, follow_links: bool) -> Iterator[VideoFile | BrokenVideo]:
    return _in_folder(path, follow_links) if os.path.isdir(path) else _in_file(path)


def _in_folder(folder: str, follow_links: bool) -> Iterator[VideoFile | BrokenVideo]:
    root = os.path.realpath(folder)
    unread: list[OSError] = []
    visited = {root}
    for parent, folders, names in os.walk(folder, onerror=unread.append, followlinks=follow_links):
        folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
        if follow_links:  # a link to a parent folder would lead to the same files again and again
            targets = {os.path.realpath(os.path.join(parent, name)): name for name in reversed(folders)}
            folders[:] = sorted(name for target, name in targets.items() if target not in visited)
            visited.update(targets)
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in {*VIDEO_SUFFIXES, ".tar"}:
                continue
            path = os.path.join(parent, name)
            if (
                not follow_links
                and os.path.islink(path)
                and os.path.commonpath([root, os.path.realpath(path)]) != root
            ):
                yield BrokenVideo(path, _LEADS_OUT)
                continue
            yield from _in_file(path)
    for error in unread:
        yield BrokenVideo(os.path.abspath(error.filename), f"the folder can't be read: {error.strerror}")


def _in_file(path: str) -> Iterator[VideoFile | BrokenVideo]:
    if path.lower().endswith(".tar") and os.path.isfile(path):
        yield from _in_tar(path)
        return
    try:
        status = os.stat(path)
    except OSError as error:
        yield BrokenVideo(path, error.strerror or "can't be found")
        return
    signature = f"{status.st_size}-{status.st_mtime_ns}"
    if stat.S_ISREG(status.st_mode):
        yield VideoFile(path, signature, path, 0, status.st_size)
    else:  # a pipe, which would block for ever, or a device
        yield BrokenVideo(path, "not a regular file", signature)


def _in_tar(path: str) -> Iterator[VideoFile | BrokenVideo]:
    """Yield the videos of a tar file, with metadata from their JSON and the manifest beside the file.

    Subtitles with the stem of a video belong to it.

    A truncated file yields its complete members and an error. Of members with the same path the last one is used, as
    in tar. Of clips with the same id the first one is used, and the others are errors.
    """
    members: dict[str, tarfile.TarInfo] = {}
    notes: dict[str, dict[str, Any]] = {}
    subtitles: dict[str, tarfile.TarInfo] = {}
    try:
        status = os.stat(path)
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, extension = os.path.splitext(member.name)
                if not member.isreg() or member.issparse() or member.offset_data + member.size > status.st_size:
                    continue  # a link, a folder or a device; or a member that is cut off
                if extension.lower() in VIDEO_SUFFIXES:
                    members[member.name] = member
                elif extension.lower() in SUBTITLE_SUFFIXES:
                    subtitles[member.name] = member
                elif extension == ".json" and member.size <= _MAX_JSON_BYTES:
                    notes[key] = _read_note(cast(IO[bytes], tar.extractfile(member)).read())
    except tarfile.TarError:
        yield BrokenVideo(path, "not a whole tar file")
    except OSError as error:
        yield BrokenVideo(path, error.strerror or "can't be read")
        return
    about = _about_shard(Path(path))
    beside = _by_stem(subtitles.values())
    signature = f"{status.st_size}-{status.st_mtime_ns}"
    clips: dict[str, str] = {}
    for path_in_tar, member in members.items():
        key = os.path.splitext(path_in_tar)[0]
        note = notes.get(key, {})
        note_id = note.get("id")
        clip = (note_id if isinstance(note_id, str) else unquote(key)).replace("\0", "")
        clip_signature = f"{signature}-{member.offset_data}-{member.size}"
        first = clips.setdefault(clip, path_in_tar)
        if first != path_in_tar:
            reason = f"{first} in the same archive has its id, {clip}"
            yield BrokenVideo(f"{path}#{path_in_tar}", one_line(ValueError(reason)), clip_signature)
            continue
        yield VideoFile(
            video_id=f"{path}#{clip}",
            signature=clip_signature,
            path=path,
            offset=member.offset_data,
            size=member.size,
            member=clip,
            start=_seconds(note.get("start")),
            end=_seconds(note.get("end")),
            metadata={"id": clip, **about},
            subtitles=tuple(beside.get(key, ())),
        )


def _by_stem(subtitles: Iterable[tarfile.TarInfo]) -> Mapping[str, list[SubtitleMember]]:
    """Group subtitle files by each of their possible stems: the parts of the name before each dot."""
    members: defaultdict[str, list[SubtitleMember]] = defaultdict(list)
    for member in subtitles:
        folder = len(member.name) - len(os.path.basename(member.name))
        for dot in (match.start() for match in re.finditer(r"\.", member.name) if match.start() > folder):
            ending = SubtitleMember(member.name[dot:], member.offset_data, member.size)
            members[member.name[:dot]].append(ending)
    return members


def _about_shard(path: Path) -> dict[str, str]:
    """Return the benchmark and the split of a shard, from the manifest beside it."""
    split = path.name.rpartition("-")[0]
    try:
        manifest = Manifest.from_json((path.parent / f"{split}.json").read_text(encoding="utf-8"), path.name)
    except (OSError, ValueError):
        return {}
    return {"benchmark": manifest.benchmark, "split": manifest.split}


def _read_note(text: bytes) -> dict[str, Any]:
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < float("inf") else None
