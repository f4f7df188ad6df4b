"""Videos in, what is stored of them out, on this machine: workers decode while the model encodes.

Notable here: an engine is a function from files to videos, and knows nothing of the index. What one engine does in a
loop, another may do on a cluster: the stages are `decode_windows`, `WindowEncoder.encode` and `Assembler`.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from .decoding import Decoded, DecodedWindow, EndOfVideo, decode_windows
from .decoding_workers import Decode, decode_all
from .encoding import WindowEncoder
from .records import BrokenVideo, IndexedVideo, IndexedWindow
from .sources import VideoFile
from .windows import WindowSettings


@dataclass(frozen=True)
class Encoded:
    """A video that is done, and what can't be read of it."""

    video: IndexedVideo
    damage: str | None


@dataclass(frozen=True)
class Progress:
    """How far a video has come, for who is watching."""

    name: str
    fraction: float


Outcome = Encoded | BrokenVideo | Progress


class Assembler:
    """Puts videos together from their encoded windows and their ends, in whatever order these come."""

    def __init__(self) -> None:
        self._windows: defaultdict[str, dict[int, IndexedWindow]] = defaultdict(dict)
        self._ends: dict[str, EndOfVideo] = {}

    def add_window(self, window: DecodedWindow, frames: np.ndarray) -> Encoded | BrokenVideo | None:
        """Add an encoded window; gives the video if this was the last that it lacked."""
        self._windows[window.name][window.number] = IndexedWindow(
            window.start, window.end, window.frame_times, frames, window.thumbnail
        )
        return self._whole(window.name)

    def add_end(self, end: EndOfVideo) -> Encoded | BrokenVideo | None:
        """Add the end of a video; gives the video if nothing is lacking."""
        self._ends[end.name] = end
        return self._whole(end.name)

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
            return BrokenVideo(name, end.signature, reason)
        return Encoded(IndexedVideo(name, end.signature, end.duration, end.metadata, windows), end.damage)


def encode_videos(
    files: Sequence[VideoFile],
    settings: WindowSettings,
    encoder: WindowEncoder,
    *,
    workers: int,
    batch_size: int,
    num_threads: int = 1,
) -> Generator[Outcome, None, None]:
    """Decode and encode videos.

    Args:
        files: The videos.
        settings: How they are cut.
        encoder: The model.
        workers: Processes that decode; 0 decodes in this one.
        batch_size: Windows encoded at a time.
        num_threads: CPU cores for each worker.

    Yields:
        Each video once, done or broken, in any order; in between, how far one has come.
    """
    processor = encoder.processor.video_processor
    decode = partial(decode_windows, settings=settings, processor=processor, num_threads=num_threads)
    assembler = Assembler()
    waiting: defaultdict[int, list[DecodedWindow]] = defaultdict(list)  # by number of frames

    def encode(windows: list[DecodedWindow]) -> Generator[Outcome, None, None]:
        for window, frames in zip(windows, encoder.encode(windows), strict=True):
            outcome = assembler.add_window(window, frames)
            yield Progress(window.name, min(1.0, window.end / window.video_seconds))
            if outcome is not None:
                yield outcome

    if workers == 0:
        stream = (decoded for file in files for decoded in decode(file))
    else:
        stream = _ahead(files, decode, workers, 2 * batch_size)
    with closing(stream):
        for decoded in stream:
            if isinstance(decoded, DecodedWindow):
                batch = waiting[len(decoded.pixels)]
                batch.append(decoded)
                if len(batch) >= batch_size:
                    yield from encode(waiting.pop(len(decoded.pixels)))
                elif sum(map(len, waiting.values())) >= 4 * batch_size:  # of many lengths, so none fills up
                    yield from encode(waiting.pop(max(waiting, key=lambda length: len(waiting[length]))))
            elif isinstance(decoded, EndOfVideo):
                whole = assembler.add_end(decoded)
                if whole is not None:
                    yield whole
            else:
                assembler.forget(decoded.name)
                for length, windows in waiting.items():
                    waiting[length] = [window for window in windows if window.name != decoded.name]
                yield decoded
    for windows in waiting.values():
        if windows:
            yield from encode(windows)


def _ahead(files: Sequence[VideoFile], decode: Decode, workers: int, count: int) -> Generator[Decoded, None, None]:
    """What the workers decode, read by a thread up to `count` items ahead of the one that is taken."""
    items: queue.Queue[Decoded | Exception | None] = queue.Queue(count)
    stop = threading.Event()

    def put(item: Decoded | Exception | None) -> None:
        while not stop.is_set():
            try:
                return items.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            with closing(decode_all(files, decode, workers, stop)) as stream:
                for item in stream:
                    put(item)
            put(None)
        except Exception as error:  # raised where the items are taken
            put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=1)  # not for longer: it may be waiting for the first worker to start, and ends by itself
