"""Match video ids with the files of a folder.

- A file matches an id if its full name is the id, or else if its name without the last extension is the id. Datasets
  circulate under slightly different names, so an id may have a second spelling, which is tried after the first.
- If two files match equally well, matching fails, unless the caller prefers the extension of one file.
- A link is followed only to a file inside the folder, unless `follow_links` is set.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short_repr

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
    ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on
SUBTITLE_SUFFIXES = (".srt", ".vtt")


class VideoFiles:
    """Index of the files in a folder and its subfolders, by name.

    Args:
        folder: The folder.
        follow_links: Also follow links that lead out of the folder, and links to folders.

    Raises:
        NotADirectoryError: If there is no such folder.
    """

    def __init__(self, folder: str | Path, *, follow_links: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{folder}: no such folder; expected the one with the videos")
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._names_of_links: set[str] = set()
        self._folder_links: list[Path] = []
        root = self.folder.resolve()
        for path in walk_files(self.folder, follow_links=follow_links, skipped=self._folder_links):
            if not follow_links and path.is_symlink() and not path.resolve().is_relative_to(root):
                self._names_of_links |= {path.name, path.stem}
                continue
            self._by_name.setdefault(path.name, []).append(path)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._by_stem.setdefault(path.stem, []).append(path)

    def named(self, name: str) -> list[Path]:
        """Return the files with exactly this name, or else the videos with this name and an extension."""
        return self._by_name.get(name) or self._by_stem.get(name) or []

    def why_missing(self, names: Sequence[str]) -> str:
        """Return the reason why none of the given names has a file."""
        if self._names_of_links.intersection(names):
            return "its file is a link that leads out of the folder of videos"
        return "no file of that name"

    def why_none(self, names: Sequence[str]) -> str:
        """Return the likely reason why no video has a file. `names` are the names of the first video."""
        if self._names_of_links.intersection(names):
            return "its file is a link that leads out of the folder; --follow-links follows it"
        if self._folder_links:
            return (
                f"the folder has {len(self._folder_links)} links to folders, such as {self._folder_links[0].name}; "
                "--follow-links follows them"
            )
        files = [path for paths in self._by_name.values() for path in paths]
        if not files:
            return "there is no file in the folder"
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        if not videos:
            return f"none of the {len(files)} files in the folder is a video, such as {files[0].name}"
        return (
            f"the folder has {len(videos)} videos of other names, such as {videos[0].name}; expected a name like "
            f"{names[0]}.mp4"
        )


@dataclass(frozen=True)
class MatchedFiles:
    """Result of matching video ids with files.

    Attributes:
        files: The file of each id, or None if no file matches.
        preferred: The rejected files of each id whose file was chosen by its extension.
    """

    files: dict[str, Path | None]
    preferred: dict[str, list[Path]] = field(default_factory=dict)


def match_files(
    video_ids: Iterable[str],
    files: VideoFiles,
    file_names: Callable[[str], Sequence[str]],
    prefer: Sequence[str] = (),
) -> MatchedFiles:
    """Find the file of each video id.

    A file that matches the first name of an id is not matched with another name of another id.

    Args:
        video_ids: The ids.
        files: The files to search.
        file_names: Returns the possible file names of an id, the most common name first.
        prefer: Extensions, such as `"mp4"`, in order of preference. They decide between files that match an id
            equally well.

    Raises:
        ValueError: If several files match an id equally well, a file matches several ids, or no id has a file.
    """
    names = {video_id: file_names(video_id) for video_id in video_ids}
    exact = {path for video_id, (first, *_) in names.items() for path in files.named(first)}
    candidates: dict[str, list[Path]] = {}
    for video_id, (first, *others) in names.items():
        unclaimed = ([path for path in files.named(name) if path not in exact] for name in others)
        candidates[video_id] = files.named(first) or next(filter(None, unclaimed), [])
    if candidates and not any(candidates.values()):
        first = next(iter(names))
        raise ValueError(
            f"{files.folder}: none of the {len(names)} videos is there, such as {short_repr(first)}: "
            f"{files.why_none(names[first])}"
        )
    chosen = {video_id: _preferred(paths, prefer) for video_id, paths in candidates.items()}
    doubtful = [video_id for video_id, paths in chosen.items() if len(paths) > 1]
    if doubtful:
        example = " and ".join(str(path) for path in chosen[doubtful[0]][:2])
        raise ValueError(
            f"{len(doubtful)} videos have several files, such as {doubtful[0]!r}: {example}; keep one of each, give "
            "the folder in which there is only one, or choose by extension with --prefer"
        )
    file_by_id = {video_id: paths[0] if paths else None for video_id, paths in chosen.items()}
    _check_distinct(file_by_id)
    preferred = {
        video_id: [path for path in paths if path != file_by_id[video_id]]
        for video_id, paths in candidates.items()
        if len(paths) > 1
    }
    return MatchedFiles(file_by_id, preferred)


def walk_files(folder: Path, *, follow_links: bool = False, skipped: list[Path] | None = None) -> Iterator[Path]:
    """Yield the files of a folder and of its subfolders, sorted by name in each folder.

    Args:
        folder: The folder.
        follow_links: Also enter links to folders, each folder once.
        skipped: List to which links to folders are added if `follow_links` is not set.

    Raises:
        OSError: If a folder can't be read.
    """
    entered = {folder.resolve()}
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=follow_links):
        folders.sort()
        for link in [path for path in (Path(parent, name) for name in folders) if path.is_symlink()]:
            if not follow_links:
                if skipped is not None:
                    skipped.append(link)
            elif link.resolve() in entered:  # a loop of links, or a second link to the folder
                folders.remove(link.name)
        entered.update(Path(parent, name).resolve() for name in folders)
        for name in sorted(names):
            yield Path(parent, name)


def _preferred(paths: list[Path], prefer: Sequence[str]) -> list[Path]:
    """Return the paths with the most preferred extension that occurs, or all paths if none does."""
    if len(paths) > 1:
        for extension in prefer:
            fitting = [path for path in paths if path.suffix.lower() == f".{extension.lower().removeprefix('.')}"]
            if fitting:
                return fitting
    return paths


def _check_distinct(files: dict[str, Path | None]) -> None:
    ids_of: dict[Path, str] = {}
    for video_id, path in files.items():
        if path is None:
            continue
        if path in ids_of:
            raise ValueError(
                f"{path}: may be the video of {ids_of[path]!r} or of {video_id!r}; name it like one of the two"
            )
        ids_of[path] = video_id


def _raise(error: OSError) -> None:
    raise error
