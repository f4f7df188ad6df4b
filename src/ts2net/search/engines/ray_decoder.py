"""The actor that decodes, on a machine of a Ray cluster.

Its process only hands on what the process beside it decodes, so it imports neither PyTorch nor Ray's engine: there is
one for each core.
"""

import os
import pickle
import platform
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from ...videos.broken import BrokenVideo
from ..decoded import Decoded, DecodedWindow
from ..decoding_workers import ISOLATION, decode_all
from ..sources import VideoFile


class Decoder:
    """An actor that decodes, in a process beside it that a hostile video may crash.

    Args:
        pickled: What decodes a video, a pickled [`Decode`].
    """

    def __init__(self, pickled: bytes) -> None:
        self._decode = partial(_decode, pickled)
        self._files: deque[VideoFile] = deque()
        self._decoded: Generator[Decoded, None, None] | None = None
        ISOLATION.start_server()  # before there is a file

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Decode the videos of a block."""
        for file in unpack(block):
            for decoded in self._decode_file(file):
                yield pack([decoded])

    def _decode_file(self, file: VideoFile) -> Iterator[Decoded]:
        if not os.path.exists(file.path):
            reason = f"the machine {platform.node()} sees no such file, and each one of the cluster has to"
            yield BrokenVideo(file.video_id, reason)
            return
        if self._decoded is None:
            # One process for all videos, each taken when the one before is done.
            self._decoded = decode_all(iter(self._files.popleft, None), self._decode, 1, threading.Event())
        self._files.append(file)
        is_whole = False
        try:
            while not is_whole:
                decoded = next(self._decoded)
                is_whole = not isinstance(decoded, DecodedWindow)
                yield decoded
        finally:
            if not is_whole:  # nobody wants the rest
                self._decoded.close()
                self._decoded = None


def _decode(pickled: bytes, file: VideoFile) -> Iterator[Decoded]:
    """Decode a video, in the process that has imported what that takes."""
    return pickle.loads(pickled)(file)


def pack(items: Sequence[Any]) -> pa.Table:
    """Items as rows. They are pickled, as all data between Ray's processes is, which trust each other."""
    return pa.table({"item": pa.array([pickle.dumps(item, protocol=5) for item in items], pa.large_binary())})


def unpack(block: pa.Table) -> Iterator[Any]:
    """The items of rows."""
    return (pickle.loads(item.as_buffer()) for item in block["item"])
