"""What comes from a visitor: checked before anything is done with it, and kept under a name of our own."""

import hashlib
import os
import re
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ..files import whole_file
from ..videos.finding import VIDEO_SUFFIXES

_LONGEST_STEM = 40
_MEGABYTE = 2**20  # as the browser's side of Gradio counts


class UploadError(ValueError):
    """An upload that isn't taken. The message is for the visitor."""


@dataclass(frozen=True)
class UploadLimits:
    """How much is taken from visitors.

    Args:
        megabytes: Of a file, of 2**20 bytes each.
        seconds: Of a video.
        total_megabytes: Of all videos that are added.

    Raises:
        ValueError: If one of them is not positive.
    """

    megabytes: int = 200
    seconds: int = 600
    total_megabytes: int = 10_000

    @property
    def bytes(self) -> int:
        """Of a file."""
        return self.megabytes * _MEGABYTE

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "total_megabytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def check_upload(path: str | None, limits: UploadLimits) -> str:
    """Check that there is an uploaded file of a size that is taken; what is in it isn't looked at.

    Args:
        path: Where it lies; `None` if there is none.
        limits: What may be taken.

    Returns:
        Where it lies.

    Raises:
        UploadError: If there is none, or it is too large.
    """
    if path is None:
        raise UploadError("Choose a video file first.")
    size = os.path.getsize(path)
    if size > limits.bytes:
        at_most = f"at most {limits.megabytes:,} MB are taken"
        raise UploadError(f"{Path(path).name} is too large: {size / _MEGABYTE:,.1f} MB, and {at_most}.")
    return path


def check_room(upload: str, folder: Path, limits: UploadLimits) -> None:
    """Check that an upload may be added to those that are kept.

    Raises:
        UploadError: If they would take more than is allowed.
    """
    kept = sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
    if kept + os.path.getsize(upload) > limits.total_megabytes * _MEGABYTE:
        raise UploadError(
            f"{Path(upload).name} can't be added: all added videos may take {limits.total_megabytes:,} MB, and "
            f"{kept / _MEGABYTE:,.1f} MB are taken."
        )


def without_folders(message: str, *paths: str | os.PathLike[str]) -> str:
    """A message for visitors, whom the folders of the server don't concern.

    Args:
        message: It may name files.
        paths: Those that it may name, and folders of such. They are left with their names alone, however they are
            written.
    """
    written = {
        form
        for path in paths
        for form in (os.fspath(path), os.path.abspath(path), os.path.realpath(path))
        if os.path.dirname(form)  # else there is nothing to hide in it
    }
    for form in sorted(written, key=len, reverse=True):  # one may be the beginning of another
        message = message.replace(form, Path(form).name)
    return message


def kept_path(upload: str, folder: Path) -> Path:
    """Where an upload is to stay.

    Args:
        upload: Where it lies.
        folder: Where to.

    Returns:
        A path whose name ends in a digest of the content: the same file has the same name however often it comes, and
        another one never takes its place.
    """
    digest = hashlib.sha256()
    with open(upload, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return folder / safe_name(Path(upload).name, digest.hexdigest()[:12])


def copy_whole(upload: str, kept: Path) -> None:
    """Copy an upload to where it stays, whole or not at all, if it isn't there already."""
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as partial:
        shutil.copyfile(upload, partial)


def safe_name(name: str, digest: str) -> str:
    """A file name out of a visitor's: letters and digits of any script, dashes, and a video's extension or none."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    stem = re.sub(r"[^\w]+", "-", stem)[:_LONGEST_STEM].strip("-_") or "video"
    return f"{stem}-{digest}{suffix.lower() if suffix.lower() in VIDEO_SUFFIXES else ''}"
