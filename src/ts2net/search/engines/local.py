"""Videos in, what is stored of them out, on this machine: workers decode while the model encodes.

Notable here: an engine is a function from files to videos, and knows nothing of the index. What one engine does in a
loop, another may do on a cluster: the stages are `decode_windows`, `WindowEncoder.encode` and `Assembler`.
"""

import threading
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial

from ...parallel.read_ahead import read_ahead
from ..decoding_workers import decode_all
from ..encoding import WindowEncoder
from ..sources import VideoFile
from ..streaming import DecodedWindow, EndOfVideo, decode_windows
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
        stop = threading.Event()
        # A worker that is starting can't be stopped; it ends by itself.
        stream = read_ahead(
            decode_all(files, decode, workers, stop), 2 * batch_size, interrupt=stop.set, join_seconds=1.0
        )
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
