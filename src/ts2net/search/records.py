"""Records that engines, the store and searches exchange. The module imports no other library than NumPy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IndexedWindow:
    """A window to store.

    Args:
        start: Second of the video at which it starts.
        end: Second at which it ends.
        frame_times: Second of each of its `T` frames.
        frames: Normalised frame embeddings, float16 of shape `(T, D)`.
        thumbnail: A small JPEG.
    """

    start: float
    end: float
    frame_times: Sequence[float]
    frames: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class IndexedVideo:
    """A video to store, with all its windows.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Signature of the file, which changes when the file changes.
        duration: Duration in seconds.
        metadata: Names and values, by which searches filter.
        windows: The windows in order.
        content: Digest of its bytes, by which a renamed file is recognised.
    """

    video_id: str
    signature: str
    duration: float
    metadata: Mapping[str, str]
    windows: Sequence[IndexedWindow]
    content: str | None = None


@dataclass(frozen=True)
class StoredVideo:
    """A video in an index, without its windows.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Signature of the file when it was indexed.
        content: Digest of its bytes; `None` if it was indexed by a version that had no digests.
        duration: Duration in seconds.
        metadata: Names and values.
    """

    video_id: str
    signature: str
    content: str | None
    duration: float
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class IndexedMoment:
    """A window in an index, without its frames.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Signature of the file when it was indexed.
        start: Second of the video at which it starts.
        end: Second at which it ends.
    """

    video_id: str
    signature: str
    start: float
    end: float


@dataclass(frozen=True)
class WindowDetails:
    """Details of a window that a result shows, but that don't affect its rank.

    Args:
        window: Name of the window in the index.
        frame_times: Second of each frame.
        metadata: Metadata of its video.
        thumbnail: A small JPEG.
    """

    window: str
    frame_times: Sequence[float]
    metadata: Mapping[str, str]
    thumbnail: bytes


@dataclass(frozen=True)
class Cue:
    """Words of subtitles that are shown at the same time.

    Args:
        start: Second of the video at which they appear.
        text: The words, in one line.
    """

    start: float
    text: str


Track = tuple[Cue, ...]
"""The subtitles of one stream or file, in order."""


@dataclass(frozen=True)
class SpokenWindow:
    """A window in which a text is spoken.

    Args:
        video_id: See `sources.VideoFile`.
        start: Second of the video at which it starts.
        end: Second at which it ends.
        row: Row in the snapshot of the indexed window that has its picture.
        score: BM25 score of the database.
        second: Second at which the words begin.
        words: The words that are spoken around this second.
    """

    video_id: str
    start: float
    end: float
    row: int
    score: float
    second: float
    words: str


@dataclass(frozen=True)
class WindowBatch:
    """A batch of `W` windows of an index, for scoring.

    Args:
        rows: Row of each window in the snapshot, `(W,)`.
        lengths: Number of frames of each window, `(W,)`, at least 1.
        frames: The frames of all windows, one window after the other, float16 of shape `(sum of lengths, D)`.
        moments: Returns video, start and end of windows, given their positions in the batch. It is called only for
            windows that are scored in full, because reading all names would take longer than scoring.
    """

    rows: np.ndarray
    lengths: np.ndarray
    frames: np.ndarray
    moments: Callable[[np.ndarray], list[tuple[str, float, float]]]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.lengths)
