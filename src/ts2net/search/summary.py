"""Summary of an index. The model is not needed."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .store import Store


@dataclass(frozen=True)
class IndexSummary:
    """Summary of an index.

    Args:
        index: Location of the index.
        model: Model that the index was made with.
        revision: Commit of the model's repository; `None` for a folder.
        dtype: Type of the model's weights.
        windows: Window settings, in words.
        videos: Number of videos.
        num_windows: Number of windows of all videos.
        num_spoken: Number of windows with spoken words, by the subtitles.
        hours: Total duration of the videos.
        broken: Number of videos that can't be indexed.
        metadata: Names of metadata.
        vector_index: Whether there is a vector index.
        bytes: Size on disk; `None` on object storage.
    """

    index: str
    model: str
    revision: str | None
    dtype: str
    windows: str
    videos: int
    num_windows: int
    num_spoken: int
    hours: float
    broken: int
    metadata: list[str]
    vector_index: bool
    bytes: int | None


def summarize(path: str | os.PathLike[str]) -> IndexSummary:
    """Summarize an index.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the format of the index is not supported.
        OSError: If the index can't be read.
    """
    store = Store.open(path)
    about, snapshot = store.about, store.snapshot()
    videos = snapshot.videos()
    return IndexSummary(
        index=store.path,
        model=about.model,
        revision=about.revision,
        dtype=about.dtype,
        windows=str(about.windows),
        videos=len(videos),
        num_windows=len(snapshot),
        num_spoken=snapshot.num_spoken(),
        hours=sum(video.duration for video in videos) / 3600,
        broken=len(store.broken()),
        metadata=snapshot.metadata_names(),
        vector_index=snapshot.has_vector_index(),
        bytes=index_bytes(store.path),
    )


def index_bytes(path: str) -> int | None:
    """Return the size of an index on disk; `None` on object storage."""
    if urlsplit(path).scheme not in ("", "file") and "://" in path:
        return None
    files = (file for file in Path(path.removeprefix("file://")).rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)
