"""Hugging Face Space of the page: a folder with the videos, the model, this package and a start script.

The folder is self-contained, and is written completely or not at all. It contains the videos, but not the index,
because the index contains paths of this machine. The Space builds its own index when it starts.
"""

import csv
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ..files import plain_name, write_errors_named, write_whole
from ..pages.rendering import render
from ..search.columns import video_key
from ..search.sources import locate
from ..search.store import Store
from ..videos.finding import VIDEO_SUFFIXES
from .uploads import UploadLimits

_PACKAGE = Path(__file__).parents[1]
_EXTRAS = ("", "app", "search")
_LARGE_FILES = "videos/** filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class WrittenSpace:
    """A written Space.

    Args:
        videos: Number of copied videos.
        left_out: Ids of indexed videos that were not copied, because their files are missing or have changed.
    """

    videos: int
    left_out: list[str]


def write_space(
    index: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    model: str | None = None,
    limits: UploadLimits | None = None,
    read_only: bool = False,
) -> WrittenSpace:
    """Write a folder that runs the page of an index as a Space: `hf upload me/my-space FOLDER . --repo-type space`.

    Args:
        index: The index.
        folder: The folder to write, which must be missing or empty.
        model: Folder or repository of the index's model; by default the location in the index. A folder is copied.
        limits: Limits of uploads.
        read_only: Refuse new videos. A Space without persistent storage loses added videos when it restarts.

    Raises:
        FileExistsError: If the folder is not empty.
        ValueError: If all videos of the index are missing or have changed.
        OSError: If there is no index, or something can't be copied.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is not an empty folder; a Space is written to a new one")
    store = Store.open(index)
    about = store.about
    source, revision = (about.model, about.revision) if model is None else (model, None)
    is_folder = Path(source).is_dir()

    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        write_errors_named(target),
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as staging,
    ):
        space = Path(staging) / "space"
        (space / "videos").mkdir(parents=True)
        written = _copy_videos(store, space / "videos")
        if not written.videos:
            raise ValueError(f"{os.fspath(index)}: none of its videos is there any more, so a Space would be empty")
        if is_folder:
            shutil.copytree(source, space / "model", ignore=shutil.ignore_patterns(".*", "__pycache__"))
        shutil.copytree(_PACKAGE, space / "ts2net", ignore=shutil.ignore_patterns("__pycache__"))
        values = {
            "gradio": version("gradio"),
            "model": None if is_folder else source,
            "revision": revision,
            "dtype": about.dtype,
            "windows": about.windows,
            "limits": limits or UploadLimits(),
            "read_only": read_only,
        }
        for name in ("app.py", "README.md"):
            write_whole(space / name, render(f"space/{name}.jinja", **values))
        write_whole(space / "requirements.txt", "".join(f"{line}\n" for line in _requirements()))
        write_whole(space / ".gitattributes", _LARGE_FILES)
        if target.exists():
            target.rmdir()
        space.rename(target)
    return written


def _copy_videos(store: Store, folder: Path) -> WrittenSpace:
    """Copy the videos of an index, including members of tar files, under names that are valid on any system."""
    copied: dict[str, Mapping[str, str]] = {}
    left_out = []
    for video in store.snapshot().videos():
        file = locate(video.video_id)
        if file is None or file.signature != video.signature:
            left_out.append(video.video_id)
            continue
        name = os.path.basename(file.path) if file.member is None else file.member
        stem, suffix = plain_name(name)
        plain = f"{stem}-{video_key(video.video_id)}{suffix.lower() if suffix.lower() in VIDEO_SUFFIXES else '.mp4'}"
        with file.open() as source, open(folder / plain, "wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
        copied[plain] = video.metadata

    columns = sorted({column for metadata in copied.values() for column in metadata})
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="", errors="backslashreplace") as table:
        writer = csv.DictWriter(table, ["file", *columns], restval="")
        writer.writeheader()
        writer.writerows({**metadata, "file": plain} for plain, metadata in sorted(copied.items()))
    return WrittenSpace(len(copied), sorted(left_out))


def _requirements() -> list[str]:
    """Return the requirements of this package and of its extras for the page, without the package itself."""
    lines = []
    for line in requires("ts2net") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if requirement.name == "ts2net":  # an extra that includes another one
            continue
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            requirement.marker = None
            lines.append(str(requirement))
    return sorted(set(lines))
