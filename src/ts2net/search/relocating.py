"""Record in an index that a folder of its videos has moved, without decoding or encoding anything."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .sources import VideoFile, content_digest, locate, size_of_file
from .store import Store


@dataclass(frozen=True)
class Relocation:
    """Result of relocating the videos of an index.

    Args:
        old: Former path of the folder.
        new: New path of the folder.
        moved: Number of indexed videos in the folder.
        missing: New paths of the videos whose files don't exist.
        changed: New paths of the videos whose files are not known to have the indexed content.
    """

    old: str
    new: str
    moved: int
    missing: Sequence[str]
    changed: Sequence[str]


def relocate(
    path: str | os.PathLike[str], root: str | os.PathLike[str], old: str | os.PathLike[str] | None = None
) -> Relocation:
    """Record the new path of a folder of indexed videos.

    A file of which only the modification time differs, as for a copy, is recognised by its content.

    Args:
        path: Location of the index.
        root: New path of the folder.
        old: Former path of the folder. By default the innermost folder that contains all indexed videos.

    Raises:
        FileNotFoundError: If there is no index, or no folder `root`.
        ValueError: If no indexed video was in the old folder, or the format of the index is not supported.
        BlockingIOError: If another process is writing to the index.
        StoreError: If the index can't be written.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{os.fspath(root)}: there is no such folder; expected the one with the videos")
    new = os.path.abspath(root)
    with Store.write(path) as store:
        names = store.snapshot().video_ids()
        old_root = _common_folder(names) if old is None else os.path.abspath(old)
        if old_root is None or not any(name.startswith(_inside(old_root)) for name in names):
            folder = "one folder of this computer" if old_root is None else old_root
            raise ValueError(f"{os.fspath(path)}: no indexed video is in {folder}: name the old folder with --from")
        store.move_root(old_root, new)
        missing, changed = [], []
        renamed: dict[str, tuple[str, str, str]] = {}
        videos = [video for video in store.snapshot().videos() if video.video_id.startswith(_inside(new))]
        for video in videos:
            file = locate(video.video_id)
            if file is None:
                missing.append(video.video_id)
            elif file.signature != video.signature:
                if video.content is None or not _has_content(file, video.signature, video.content):
                    changed.append(video.video_id)
                else:
                    renamed[video.video_id] = (video.video_id, file.signature, video.content)
        store.rename(renamed)
    return Relocation(old_root, new, len(videos), missing, changed)


def _common_folder(video_ids: Sequence[str]) -> str | None:
    """Return the innermost folder that contains all videos."""
    try:
        return os.path.commonpath([os.path.dirname(video_id.partition(".tar#")[0]) for video_id in video_ids])
    except ValueError:  # no videos, or videos on several drives
        return None


def _inside(folder: str) -> str:
    return folder.rstrip(os.sep) + os.sep


def _has_content(file: VideoFile, signature: str, content: str) -> bool:
    return file.member is None and size_of_file(signature) == file.size and content_digest(file) == content
