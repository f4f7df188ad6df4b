"""What engines give, what the store keeps, and what a search reads. None of it needs a library of either."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class IndexedWindow:
    """A window, to be stored.

    Args:
        start: Second of the video at which it starts.
        end: Second at which it ends.
        frame_times: Second of each of its `T` frames.
        frames: Frame embeddings of length 1, float16 of shape `(T, D)`.
        thumbnail: A small JPEG.
    """

    start: float
    end: float
    frame_times: Sequence[float]
    frames: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class IndexedVideo:
    """A video with all its windows, to be stored.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Changes when the file does.
        duration: Seconds.
        metadata: Names and values, to filter by.
        windows: In order.
        content: Digest of its bytes, to know it again under another name.
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
        signature: Of the file when it was indexed.
        content: Digest of its bytes; `None` if it was indexed before there were any.
        duration: Seconds.
        metadata: Names and values.
    """

    video_id: str
    signature: str
    content: str | None
    duration: float
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class IndexedMoment:
    """A window in an index, as it was when its video was indexed.

    Args:
        video_id: See `sources.VideoFile`.
        signature: Of the file when it was indexed.
        start: Second of the video at which it starts.
        end: Second at which it ends.
    """

    video_id: str
    signature: str
    start: float
    end: float


@dataclass(frozen=True)
class WindowDetails:
    """What a result shows of a window, beside what decides its rank.

    Args:
        window: Its name in the index.
        frame_times: Second of each frame.
        metadata: Of its video.
        thumbnail: A small JPEG.
    """

    window: str
    frame_times: Sequence[float]
    metadata: Mapping[str, str]
    thumbnail: bytes


@dataclass(frozen=True)
class Cue:
    """Words of subtitles that are shown together.

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
        row: The row in the snapshot of the window with its picture.
        score: How well it fits, by the database (BM25).
        second: Second at which the words begin.
        words: What is spoken around them.
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
    """Some windows (`W`) of an index, to be scored.

    Args:
        rows: Their rows in the snapshot, `(W,)`.
        lengths: How many frames each has, `(W,)`, at least 1.
        frames: The frames of all windows, one window after the other, float16 of shape `(sum of lengths, D)`.
        moments: Gives video, start and end of windows by their positions in the batch. It is called only for windows
            that are scored in full, since reading all names would take longer than scoring.
    """

    rows: np.ndarray
    lengths: np.ndarray
    frames: np.ndarray
    moments: Callable[[np.ndarray], list[tuple[str, float, float]]]

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.lengths)
