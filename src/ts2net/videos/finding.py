"""Which file of a folder is the video of an id.

Notable here:
- A file is a video's when its full name is the id, or else its name without the last extension is. Data sets are
  passed on under slightly different names, so a benchmark may have a second spelling of an id, tried after the first.
- Of two files that fit equally well none is taken: which of them the rest of the world means can't be known.
- A link is followed only to a file inside the folder.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from reprlib import repr as short_repr

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
    ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on


class VideoFiles:
    """The files of a folder and of all folders in it, by name.

    Raises:
        NotADirectoryError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{folder}: no such folder; expected the one with the videos")
        root = self.folder.resolve()
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._leading_out: set[str] = set()
        for parent, folders, names in os.walk(self.folder, onerror=_raise):
            folders.sort()
            for name in sorted(names):
                path = Path(parent, name)
                if path.is_symlink() and not path.resolve().is_relative_to(root):
                    self._leading_out |= {name, path.stem}
                    continue
                self._by_name.setdefault(name, []).append(path)
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    self._by_stem.setdefault(path.stem, []).append(path)

    def candidates(self, video_id: str, benchmark: str) -> list[Path]:
        """The files that fit an id best, all equally well; more than one is for a person to decide."""
        for name in spellings(video_id, benchmark):
            for files in (self._by_name, self._by_stem):
                if name in files:
                    return files[name]
        return []

    def why_missing(self, video_id: str, benchmark: str) -> str:
        """What is to be said of an id without candidates."""
        if self._leading_out.intersection(spellings(video_id, benchmark)):
            return "its file is a link that leads out of the folder of videos"
        return "no file of that name"


def match_files(video_ids: Iterable[str], files: VideoFiles, benchmark: str) -> dict[str, Path | None]:
    """Finds the video of each id, None if there is none.

    Raises:
        ValueError: several files fit an id equally well, or not one id has a file.
    """
    candidates = {video_id: files.candidates(video_id, benchmark) for video_id in video_ids}
    doubtful = [video_id for video_id, paths in candidates.items() if len(paths) > 1]
    if doubtful:
        example = " and ".join(str(path) for path in candidates[doubtful[0]][:2])
        raise ValueError(
            f"{len(doubtful)} videos have several files, such as {doubtful[0]!r}: {example}; keep one of each, or "
            "give the folder in which there is only one"
        )
    if candidates and not any(candidates.values()):
        example = short_repr(next(iter(candidates)))
        raise ValueError(f"{files.folder}: none of the {len(candidates)} videos is there, such as {example}")
    return {video_id: paths[0] if paths else None for video_id, paths in candidates.items()}


def spellings(video_id: str, benchmark: str) -> list[str]:
    """The names an id goes by, the most usual one first."""
    if benchmark == "activitynet":  # the data set's own files begin with v_, downloads of the web videos don't
        bare = video_id.removeprefix("v_")
        return [video_id, bare if bare != video_id else f"v_{video_id}"]
    if benchmark == "didemo":  # an id ends like the file that was once uploaded; converted files may not
        return [video_id, PurePath(video_id).stem]
    return [video_id]


def _raise(error: OSError) -> None:
    raise error
