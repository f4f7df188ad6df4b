"""Checks, limits and storage of uploaded files."""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import plain_name, whole_file
from ..search.subtitle_files import subtitle_ending
from ..videos.finding import SUBTITLE_SUFFIXES, VIDEO_SUFFIXES

FILES_AT_ONCE = 10  # maximum-size files per upload request
_MEGABYTE = 2**20  # as in Gradio


_OTHER_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^/\s'\":]+/)+")


class UploadError(ValueError):
    """An upload was refused. The message is shown to the visitor."""


@dataclass(frozen=True)
class UploadLimits:
    """Limits of uploads.

    Args:
        megabytes: Maximum size of a file, in units of 2**20 bytes.
        seconds: Maximum duration of a video.
        total_megabytes: Maximum size of all added videos together.

    Raises:
        ValueError: If a limit is not positive.
    """

    megabytes: int = 200
    seconds: int = 600
    total_megabytes: int = 10_000

    @property
    def bytes(self) -> int:
        """Maximum size of a file in bytes."""
        return self.megabytes * _MEGABYTE

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "total_megabytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def check_upload(path: str | None, limits: UploadLimits) -> str:
    """Check that a file was uploaded and is not too large. Its content is not read.

    Args:
        path: Path of the upload; `None` if there is none.
        limits: The limits.

    Returns:
        The path.

    Raises:
        UploadError: If there is no upload, or it is too large.
    """
    if path is None:
        raise UploadError("Choose a video file first.")
    size = os.path.getsize(path)
    if size > limits.bytes:
        at_most = f"at most {limits.megabytes:,} MB are taken"
        raise UploadError(f"{Path(path).name} is too large: {size / _MEGABYTE:,.1f} MB, and {at_most}.")
    return path


def with_subtitles(uploads: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Group subtitle files with the videos of the same name.

    Args:
        uploads: Paths of videos and subtitle files.

    Returns:
        The subtitle files of each video, matched by its stem, and the subtitle files without a video.
    """
    subtitles = [upload for upload in uploads if upload.lower().endswith(SUBTITLE_SUFFIXES)]
    videos = {
        video: [file for file in subtitles if subtitle_ending(Path(file).name, Path(video).stem) is not None]
        for video in uploads
        if video not in subtitles
    }
    used = {file for of_video in videos.values() for file in of_video}
    return videos, [file for file in subtitles if file not in used]


def check_room(uploads: Sequence[str], folder: Path, limits: UploadLimits) -> None:
    """Check that uploads fit into the space for added videos.

    Raises:
        UploadError: If they don't fit.
    """
    kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if uploads and kept + sum(map(os.path.getsize, uploads)) > limits.total_megabytes * _MEGABYTE:
        raise UploadError(
            f"{Path(uploads[-1]).name} can't be added: all added videos may take {limits.total_megabytes:,} MB, and "
            f"{kept / _MEGABYTE:,.1f} MB are taken."
        )


def without_folders(message: str, *paths: str | os.PathLike[str]) -> str:
    """Replace paths in a message by their last parts so that visitors don't see the folders of the server.

    Args:
        message: The message.
        paths: Paths that the message may contain, as given, absolute or resolved. They may contain spaces. Other
            absolute paths are also shortened, but only if their folders have no spaces.
    """
    forms = {
        form
        for path in paths
        for form in (os.fspath(path), os.path.abspath(path), os.path.realpath(path))
        if os.path.dirname(form)  # a bare name reveals no folder
    }
    for form in sorted(forms, key=len, reverse=True):  # a path may be the beginning of another
        message = message.replace(form, Path(form).name)
    return _OTHER_FOLDERS.sub("", message)


def kept_path(upload: str, folder: Path) -> Path:
    """Return the path under which an upload is stored.

    Args:
        upload: Path of the upload.
        folder: Folder of the added videos.

    Returns:
        A path with the name of the upload, in a folder that is named after the hash of its content. So no other file
        replaces the upload, and the same file uploaded again under another name keeps its first name.
    """
    digest = hashlib.sha256()
    with open(upload, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    content_folder = folder / digest.hexdigest()[:16]
    files = sorted(content_folder.iterdir()) if content_folder.is_dir() else []
    present = next((file for file in files if not _is_beside(file)), None)
    stem, suffix = plain_name(Path(upload).name)
    return present or content_folder / (stem + (suffix if suffix.lower() in VIDEO_SUFFIXES else ""))


def _is_beside(file: Path) -> bool:
    """Whether a file in the folder of a video is not the video, but subtitles or a partially written file."""
    return file.name.startswith(".") or file.suffix.lower() in SUBTITLE_SUFFIXES


def copy_whole(upload: str, kept: Path) -> None:
    """Copy an upload completely or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as partial:
        shutil.copyfile(upload, partial)
