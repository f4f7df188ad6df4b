"""The interface of engines, and the assembly of videos from windows in any order."""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...videos.broken import BrokenVideo
from ..decoded import Decoded, DecodedWindow, EndOfVideo
from ..encoding import WindowEncoder
from ..records import IndexedVideo, IndexedWindow
from ..sources import VideoFile
from ..windows import WindowSettings


@dataclass(frozen=True)
class Encoded:
    """An encoded video, and a description of the part that can't be read, if any."""

    video: IndexedVideo
    damage: str | None


@dataclass(frozen=True)
class Progress:
    """Progress within a video as a fraction from 0 to 1, and the duration of the video in seconds."""

    video_id: str
    fraction: float
    video_seconds: float


Outcome = Encoded | BrokenVideo | Progress


class Engine(Protocol):
    """Engine that decodes and encodes videos."""

    @property
    def model_device(self) -> str | None:
        """The device on which this process should load the model; `None` is a GPU if there is one."""

    def start(self) -> None:
        """Start slow preparations, which run while the model is loaded."""

    def encode(
        self, files: Sequence[VideoFile], settings: WindowSettings, encoder: WindowEncoder
    ) -> Generator[Outcome, None, None]:
        """Decode and encode videos.

        Args:
            files: The videos.
            settings: Window settings.
            encoder: Encoder of the windows.

        Yields:
            Each video once, encoded or broken, in any order, with [`Progress`] in between.
        """


class Assembler:
    """Assembler of videos from their encoded windows and ends, which may arrive in any order."""

    def __init__(self) -> None:
        self._windows: defaultdict[str, dict[int, IndexedWindow]] = defaultdict(dict)
        self._ends: dict[str, EndOfVideo] = {}

    def add(self, item: Decoded, frames: np.ndarray | None = None) -> Iterator[Outcome]:
        """Add a decoded item of a video.

        Args:
            item: A window, the end of a video, or a broken video. Repeated windows are ignored.
            frames: The frame embeddings of a window.

        Yields:
            The progress within the video, and the video when it is complete.
        """
        if isinstance(item, BrokenVideo):
            self._forget(item.video_id)
            yield item
            return
        if isinstance(item, DecodedWindow):
            assert frames is not None
            self._windows[item.video_id][item.number] = IndexedWindow(
                item.start, item.end, item.frame_times, frames, item.thumbnail
            )
            yield Progress(item.video_id, min(1.0, item.end / item.video_seconds), item.video_seconds)
        else:
            self._ends[item.video_id] = item
        end = self._ends.get(item.video_id)
        if end is not None and len(self._windows[item.video_id]) >= end.num_windows:
            yield self._whole(end)

    def _whole(self, end: EndOfVideo) -> Encoded | BrokenVideo:
        windows = [self._windows[end.video_id][number] for number in range(end.num_windows)]
        self._forget(end.video_id)
        if not all(np.isfinite(window.frames).all() for window in windows):
            reason = "the model gives it an embedding that is not finite: try another dtype"
            return BrokenVideo(end.video_id, reason, end.signature)
        return Encoded(IndexedVideo(end.video_id, end.signature, end.duration, end.metadata, windows), end.damage)

    def _forget(self, video_id: str) -> None:
        self._windows.pop(video_id, None)
        self._ends.pop(video_id, None)
