"""Which videos are meant by files, folders, patterns and shards, and how each is opened.

Notable here:
- A video's name is the absolute path of its file, exactly as the system has it; for a member of a tar file that path,
  `#` and the clip's id. What a name says is only ever looked up, never run, unpacked or followed out of a folder.
- A member of a tar file is read where it lies: nothing is extracted, so its own name leads nowhere.
"""

import csv
import errno
import glob
import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote

from ..data.manifest import Manifest
from ..errors import one_line
from ..videos.broken import BrokenVideo
from ..videos.finding import VIDEO_SUFFIXES

_MAX_JSON_BYTES = 2**20
_FILE_COLUMN = "file"
_LEADS_OUT = "a link that leads out of the folder"


@dataclass(frozen=True)
class VideoFile:
    """A video that may be indexed: a file, or a part of one.

    Args:
        video_id: The path of its file; for a member of a tar file that path, `#` and the id of the clip.
        signature: Changes when the file does.
        path: The file.
        offset: Where in it the video begins, for the next one in bytes.
        size: Of the video.
        member: The clip's id, if it is a member of a tar file.
        start: Seconds at which the moment begins that is meant, if not the whole video.
        end: Seconds at which it ends.
        metadata: What else is known of it.
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

    def open(self) -> BinaryIO:
        """The bytes of the video, as a file that can be read and sought in."""
        file = io.FileIO(self.path)
        if self.member is None:
            return cast(BinaryIO, file)
        return cast(BinaryIO, _Slice(file, self.offset, self.size, self.video_id))


class _Slice(io.RawIOBase):
    """A part of a file, as a file."""

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
class Found:
    """What there is: videos, and what looks like one and can't be used."""

    videos: list[VideoFile]
    broken: list[BrokenVideo]


def find_videos(sources: Iterable[str | os.PathLike[str]]) -> Found:
    """Find the videos that are meant.

    Args:
        sources: Files, folders with all that is in them, patterns such as `clips/**/*.mp4`, and tar files such as
            `ts2net prepare` makes. In a folder, videos and tar files are known by their extensions, and what is
            hidden is passed over, as are links to other folders. What a pattern fits has to lie in the folder with
            which it begins.

    Returns:
        Each video once, in the order of their names; and what can't be read, a folder among it.

    Raises:
        FileNotFoundError: If there is no such file or folder, or nothing fits a pattern.
        ValueError: If no source is given.
    """
    videos: dict[str, VideoFile] = {}
    broken: dict[str, BrokenVideo] = {}
    source = None
    for source in sources:
        for found in _in_source(os.fspath(source)):
            if isinstance(found, VideoFile):
                videos[found.video_id] = found
            else:
                broken[found.video_id] = found
    if source is None:
        raise ValueError("there is nothing to index: expected at least one file, folder or pattern")
    return Found(
        [videos[name] for name in sorted(videos)], [broken[name] for name in sorted(broken.keys() - videos.keys())]
    )


def locate(name: str) -> VideoFile | None:
    """The video of a name that `find_videos` gave, `None` if it is no longer there."""
    if os.path.isfile(name):
        found: Iterable[VideoFile | BrokenVideo] = _in_file(name)
        return next((video for video in found if isinstance(video, VideoFile)), None)
    video = _members_of(_archive_of(name)).get(name)
    return video if isinstance(video, VideoFile) else None


def missing_names(names: Iterable[str]) -> list[str]:
    """Those of some names whose video is no longer there, in order. What only can't be reached is not missing."""
    return [name for name in sorted(names) if _is_gone(name) and name not in _members_of(_archive_of(name))]


def holds_videos(path: str) -> bool:
    """Whether that is a folder or an archive, and not a video."""
    return os.path.isdir(path) or path.lower().endswith(".tar")


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for what is no path at all
        return True
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG  # a clip's id may be of any length
    return False


def _archive_of(name: str) -> str | None:
    """The tar file that a name is a member of, if it is there. A clip's id may itself have `.tar#` in it."""
    ends = (found.end() - 1 for found in re.finditer(r"\.tar#", name, re.IGNORECASE))
    return next((name[:end] for end in ends if os.path.isfile(name[:end])), None)


def _members_of(archive: str | None) -> Mapping[str, VideoFile | BrokenVideo]:
    """What is in a tar file, by name. It is read again when it has changed."""
    if archive is None:
        return {}
    try:
        status = os.stat(archive)
    except OSError:
        return {}
    return _list_members(archive, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)  # a page asks for many parts of each video that it plays
def _list_members(archive: str, modified: int, size: int) -> Mapping[str, VideoFile | BrokenVideo]:
    return {found.video_id: found for found in _in_tar(archive)}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Read what else is known of videos.

    Args:
        path: A CSV file with a column `file` and any others.

    Returns:
        The other columns of each file.

    Raises:
        ValueError: If it is no such file, or a file is in it twice.
        OSError: If it can't be read.
    """
    path = os.fspath(path)
    rows: dict[str, dict[str, str]] = {}
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            if _FILE_COLUMN not in columns or len(set(columns)) < len(columns):
                raise ValueError(
                    f"{path}: expected a CSV file with a column {_FILE_COLUMN!r} and others of different names, its "
                    f"first line has {', '.join(map(repr, columns)) or 'nothing'}"
                )
            for row in reader:
                name = row.pop(_FILE_COLUMN)
                if None in row or None in row.values():
                    raise ValueError(f"{path}, line {reader.line_num}: expected {len(columns)} values")
                if name in rows:
                    raise ValueError(f"{path}, line {reader.line_num}: {name!r} is there twice")
                rows[name] = cast(dict[str, str], row)
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file ({error})") from error
    return rows


def rows_of(
    videos: Sequence[VideoFile], rows: Mapping[str, Mapping[str, str]], folder: str | os.PathLike[str]
) -> dict[str, Mapping[str, str]]:
    """Find the row of each video that has one.

    Args:
        videos: The videos.
        rows: From `read_metadata`. A file is meant by its path, which may begin in `folder`, by its name alone, or by
            the id of a clip in a tar file.
        folder: That of the metadata.

    Returns:
        The rows by the names of the videos.

    Raises:
        ValueError: If there are rows and none is of these videos, or one may be of several.
    """
    by_path = {os.path.abspath(os.path.join(folder, name)): row for name, row in rows.items()}
    namesakes: dict[str, str] = {}
    found: dict[str, Mapping[str, str]] = {}
    for video in videos:
        row = by_path.get(video.video_id)
        short = os.path.basename(video.path) if video.member is None else video.member
        if row is None and short in rows:
            other = namesakes.setdefault(short, video.video_id)
            if other != video.video_id:
                raise ValueError(f"the metadata of {short!r} may be of {other} or {video.video_id}: give its path")
            row = rows[short]
        if row is not None:
            found[video.video_id] = row
    if rows and not found:
        raise ValueError(f"the metadata is of none of the {len(videos)} videos, {next(iter(rows))!r} for one is not")
    return found


def _in_source(source: str) -> Iterator[VideoFile | BrokenVideo]:
    """What a file, a folder or a pattern means: a shell doesn't expand what is quoted, nor does every shell."""
    if os.path.lexists(source):
        yield from _in_path(os.path.abspath(source))
        return
    if not glob.has_magic(source):
        raise FileNotFoundError(f"{source}: no such file or folder")
    # A link to a folder above leads to the same files again, by ever longer paths: the shortest is taken.
    paths: dict[str, str] = {}
    for path in sorted(glob.glob(source, recursive=True), key=lambda path: (len(path), path)):
        paths.setdefault(os.path.realpath(path), os.path.abspath(path))
    if not paths:
        raise FileNotFoundError(f"{source}: no file fits this pattern")
    folder = os.path.dirname(source)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    root = os.path.realpath(folder)
    for target, path in paths.items():
        if os.path.commonpath([root, target]) == root:
            yield from _in_path(path)
        else:
            yield BrokenVideo(path, _LEADS_OUT)


def _in_path(path: str) -> Iterator[VideoFile | BrokenVideo]:
    return _in_folder(path) if os.path.isdir(path) else _in_file(path)


def _in_folder(folder: str) -> Iterator[VideoFile | BrokenVideo]:
    root = os.path.realpath(folder)
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in {*VIDEO_SUFFIXES, ".tar"}:
                continue
            path = os.path.join(parent, name)
            if os.path.islink(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
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
    else:  # a pipe, which would be waited for for ever, or a device
        yield BrokenVideo(path, "not a regular file", signature)


def _in_tar(path: str) -> Iterator[VideoFile | BrokenVideo]:
    """The members of a tar file that are videos, each with what its JSON and the manifest beside the file say.

    Of one that is cut off, the members that are whole; and that it is. Of several of the same path the last, as tar
    has it; of several of the same id the first, and that the others are there.
    """
    members: dict[str, tarfile.TarInfo] = {}
    notes: dict[str, dict[str, Any]] = {}
    try:
        status = os.stat(path)
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, extension = os.path.splitext(member.name)
                if not member.isreg() or member.issparse() or member.offset_data + member.size > status.st_size:
                    continue  # a link, a folder, a device: nothing of a video's; or one that was cut off
                if extension.lower() in VIDEO_SUFFIXES:
                    members[member.name] = member
                elif extension == ".json" and member.size <= _MAX_JSON_BYTES:
                    notes[key] = _read_note(cast(IO[bytes], tar.extractfile(member)).read())
    except tarfile.TarError:
        yield BrokenVideo(path, "not a whole tar file")
    except OSError as error:
        yield BrokenVideo(path, error.strerror or "can't be read")
        return
    about = _about_shard(Path(path))
    signature = f"{status.st_size}-{status.st_mtime_ns}"
    clips: dict[str, str] = {}
    for path_in_tar, member in members.items():
        key = os.path.splitext(path_in_tar)[0]
        note = notes.get(key, {})
        known = note.get("id")
        clip = (known if isinstance(known, str) else unquote(key)).replace("\0", "")
        own_signature = f"{signature}-{member.offset_data}-{member.size}"
        first = clips.setdefault(clip, path_in_tar)
        if first != path_in_tar:
            reason = f"{first} in the same archive has its id, {clip}"
            yield BrokenVideo(f"{path}#{path_in_tar}", one_line(ValueError(reason)), own_signature)
            continue
        yield VideoFile(
            video_id=f"{path}#{clip}",
            signature=own_signature,
            path=path,
            offset=member.offset_data,
            size=member.size,
            member=clip,
            start=_seconds(note.get("start")),
            end=_seconds(note.get("end")),
            metadata={"id": clip, **about},
        )


def _about_shard(path: Path) -> dict[str, str]:
    """The benchmark and the split of a shard, if the manifest beside it tells."""
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
