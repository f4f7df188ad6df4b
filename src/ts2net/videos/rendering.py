"""Encoding of frames as mp4, and drawing of pictures in several processes, for the rendered benchmarks."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import av
import numpy as np

from ..parallel.pool import Died, run_in_order

T = TypeVar("T")


def encode_mp4(frames: np.ndarray, fps: int, crf: int) -> bytes:
    """Encode frames as an mp4 file with H.264. The bytes are reproducible.

    Args:
        frames: uint8 RGB of shape `(T, H, W, 3)`.
        fps: Frames per second.
        crf: Constant rate factor of x264; lower values mean higher quality.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # One thread and no special instructions, because otherwise the bytes would depend on the number of cores and
        # the processor; on some processors they would even differ from run to run.
        options = {"threads": "1", "x264-params": "cpu-independent=1", "preset": "veryfast", "crf": str(crf)}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def draw_in_processes(
    draw: Callable[[Sequence[T]], np.ndarray], items: Sequence[T], *, items_a_job: int, workers: int
) -> np.ndarray:
    """Draw pictures of many items in several processes, in the order of the items.

    Args:
        draw: Picklable function that returns the pictures of some items, `(items, H, W, 3)`.
        items: The items.
        items_a_job: Number of items that a process draws at a time.
        workers: Number of processes; 0 draws in this process.

    Returns:
        The pictures, `(items, H, W, 3)`.

    Raises:
        RuntimeError: If a process dies.
    """
    jobs = [partial(draw, items[first : first + items_a_job]) for first in range(0, len(items), items_a_job)]
    drawn = []
    for pictures in run_in_order(jobs, workers, preload=(__name__,)):
        if isinstance(pictures, Died):
            raise RuntimeError("a process that draws pictures died, for want of memory perhaps")
        drawn.append(pictures)
    return np.concatenate(drawn)
