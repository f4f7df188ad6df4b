"""Decoding actor on a machine of a Ray cluster.

There is one actor per core. The process of an actor only passes on what a separate process decodes, so this module
imports neither PyTorch nor the engine.
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
    """Actor that decodes in a separate process, which a malicious video may crash.

    Args:
        pickled: Pickled [`Decode`], the function that decodes a video.
    """

    def __init__(self, pickled: bytes) -> None:
        self._decode = partial(_decode, pickled)
        self._files: deque[VideoFile] = deque()
        self._decoded: Generator[Decoded, None, None] | None = None
        ISOLATION.start_server()  # before the first file arrives

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
            # One process for all videos, which takes the next video when the previous one is done.
            self._decoded = decode_all(iter(self._files.popleft, None), self._decode, 1, threading.Event())
        self._files.append(file)
        is_whole = False
        try:
            while not is_whole:
                decoded = next(self._decoded)
                is_whole = not isinstance(decoded, DecodedWindow)
                yield decoded
        finally:
            if not is_whole:  # the rest is not wanted
                self._decoded.close()
                self._decoded = None


def _decode(pickled: bytes, file: VideoFile) -> Iterator[Decoded]:
    """Decode a video, in the process that has imported the needed modules."""
    return pickle.loads(pickled)(file)


def pack(items: Sequence[Any]) -> pa.Table:
    """Convert items to rows by pickling. Ray's processes trust each other and pickle all their data."""
    return pa.table({"item": pa.array([pickle.dumps(item, protocol=5) for item in items], pa.large_binary())})


def unpack(block: pa.Table) -> Iterator[Any]:
    """Yield the items of rows."""
    return (pickle.loads(item.as_buffer()) for item in block["item"])
