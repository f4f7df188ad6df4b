"""Engine of a single machine: worker processes decode while the model encodes."""

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from ...parallel.pool import available_cores
from ...parallel.read_ahead import read_ahead
from ...videos.broken import BrokenVideo
from ..decoded import Decoded, DecodedWindow
from ..decoding_workers import ISOLATION, decode_all
from ..encoding import WindowEncoder
from ..sources import VideoFile
from ..streaming import decode_windows
from ..windows import WindowSettings
from .assembling import Assembler, Outcome


@dataclass(frozen=True)
class LocalEngine:
    """Engine that decodes and encodes on this machine; see [`Engine`].

    Args:
        batch_size: Number of windows that are encoded at a time.
        workers: Number of decoding processes; 0 decodes in this process, `None` is one per core.
        device: Device of the model; `None` is a GPU if there is one.
    """

    batch_size: int = 16
    workers: int | None = None
    device: str | None = None

    @property
    def model_device(self) -> str | None:
        """Device on which this process should load the model."""
        return self.device

    def start(self) -> None:
        """Start the server from which workers are forked."""
        if self.workers != 0:
            ISOLATION.start_server()

    def encode(
        self, files: Sequence[VideoFile], settings: WindowSettings, encoder: WindowEncoder
    ) -> Generator[Outcome, None, None]:
        """Decode and encode videos; see [`Engine.encode`]."""
        assembler = Assembler()
        waiting: list[DecodedWindow] = []

        def encode_waiting() -> Generator[Outcome, None, None]:
            windows = waiting.copy()
            waiting.clear()
            for window, frames in zip(windows, encoder.encode(windows), strict=True):
                yield from assembler.add(window, frames)

        with closing(self._decode(files, settings, encoder)) as stream:
            for decoded in stream:
                if isinstance(decoded, DecodedWindow):
                    waiting.append(decoded)
                    if len(waiting) == self.batch_size:
                        yield from encode_waiting()
                    continue
                if isinstance(decoded, BrokenVideo):
                    waiting[:] = [window for window in waiting if window.video_id != decoded.video_id]
                yield from assembler.add(decoded)
        if waiting:
            yield from encode_waiting()

    def _decode(
        self, files: Sequence[VideoFile], settings: WindowSettings, encoder: WindowEncoder
    ) -> Generator[Decoded, None, None]:
        workers = min(available_cores() if self.workers is None else self.workers, len(files))
        decode = partial(
            decode_windows,
            settings=settings,
            processor=encoder.processor.video_processor,
            num_threads=max(1, available_cores() // max(1, workers)),
        )
        if workers == 0:
            return (decoded for file in files for decoded in decode(file))
        stop = threading.Event()
        # A worker that is starting can't be stopped; it ends by itself.
        return read_ahead(
            decode_all(files, decode, workers, stop), 2 * self.batch_size, interrupt=stop.set, join_seconds=1.0
        )
