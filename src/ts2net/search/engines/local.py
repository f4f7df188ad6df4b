"""Videos in, what is stored of them out, on this machine: workers decode while the model encodes.

Notable here: an engine is a function from files to videos, and knows nothing of the index. What one engine does in a
loop, another may do on a cluster: the stages are `decode_windows`, `WindowEncoder.encode` and `Assembler`.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial

from ..decoding_workers import Decode, decode_all
from ..encoding import WindowEncoder
from ..sources import VideoFile
from ..streaming import Decoded, DecodedWindow, EndOfVideo, decode_windows
from ..windows import WindowSettings
from .assembling import Assembler, Outcome, Progress


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
            yield Progress(window.video_id, min(1.0, window.end / window.video_seconds))
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
                assembler.forget(decoded.video_id)
                for length, windows in waiting.items():
                    waiting[length] = [window for window in windows if window.video_id != decoded.video_id]
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
