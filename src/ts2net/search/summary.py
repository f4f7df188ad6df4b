"""What an index holds, told without its model."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .store import Store


@dataclass(frozen=True)
class IndexSummary:
    """What an index holds.

    Args:
        index: Its location.
        model: What it was made with.
        revision: Commit of the model's repository; `None` for a folder.
        dtype: Type of the model's weights.
        windows: How videos are cut, in words.
        videos: How many there are.
        num_windows: How many windows they have.
        num_spoken: In how many of these something is spoken, by the subtitles.
        hours: How long the videos are together.
        broken: How many videos can't be indexed.
        metadata: The names of metadata.
        vector_index: Whether it has a vector index.
        bytes: What it takes on disk; `None` on object storage.
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
    """Read what an index holds.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is of another format.
        OSError: If it can't be read.
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
    """What an index takes on disk; `None` on object storage."""
    if urlsplit(path).scheme not in ("", "file") and "://" in path:
        return None
    files = (file for file in Path(path.removeprefix("file://")).rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)
