"""What every engine yields, and the assembling of videos from windows that come in any order."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ...videos.broken import BrokenVideo
from ..records import IndexedVideo, IndexedWindow
from ..streaming import DecodedWindow, EndOfVideo


@dataclass(frozen=True)
class Encoded:
    """A video that is done, and what can't be read of it."""

    video: IndexedVideo
    damage: str | None


@dataclass(frozen=True)
class Progress:
    """How far a video has come, for who is watching."""

    video_id: str
    fraction: float


Outcome = Encoded | BrokenVideo | Progress


class Assembler:
    """Puts videos together from their encoded windows and their ends, in whatever order these come."""

    def __init__(self) -> None:
        self._windows: defaultdict[str, dict[int, IndexedWindow]] = defaultdict(dict)
        self._ends: dict[str, EndOfVideo] = {}

    def add_window(self, window: DecodedWindow, frames: np.ndarray) -> Encoded | BrokenVideo | None:
        """Add an encoded window; gives the video if this was the last that it lacked."""
        self._windows[window.video_id][window.number] = IndexedWindow(
            window.start, window.end, window.frame_times, frames, window.thumbnail
        )
        return self._whole(window.video_id)

    def add_end(self, end: EndOfVideo) -> Encoded | BrokenVideo | None:
        """Add the end of a video; gives the video if nothing is lacking."""
        self._ends[end.video_id] = end
        return self._whole(end.video_id)

    def forget(self, name: str) -> None:
        """Drop what there is of a video, which is broken."""
        self._windows.pop(name, None)
        self._ends.pop(name, None)

    def _whole(self, name: str) -> Encoded | BrokenVideo | None:
        end = self._ends.get(name)
        if end is None or len(self._windows[name]) < end.num_windows:
            return None
        windows = [self._windows[name][number] for number in range(end.num_windows)]
        self.forget(name)
        if not all(np.isfinite(window.frames).all() for window in windows):
            reason = "the model gives it an embedding that is not finite: try another dtype"
            return BrokenVideo(name, reason, end.signature)
        return Encoded(IndexedVideo(name, end.signature, end.duration, end.metadata, windows), end.damage)
