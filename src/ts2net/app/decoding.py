"""Uploads decoded by processes of their own: what a hostile video does to the libraries that read it happens there.

Notable here: a process lives for one upload and is copied from one that has imported all it needs, so that it costs
little and nothing stays behind. What it sends back are numbers.
"""

import contextlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..errors import one_line
from ..search.decoding_workers import process_context
from ..video_decoding_ts2net import decode_video
from ..video_processing_ts2net import TS2NetVideoProcessor
from .uploads import UploadError, UploadLimits, without_folder

_PATIENCE = 300.0  # seconds that an upload may take
_LONGEST_STOP = 5.0  # seconds


def clip_inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, torch.Tensor]:
    """Make an upload ready for the model.

    Args:
        path: Where it lies.
        processor: Makes frames as the model takes them.
        limits: What may be taken.

    Returns:
        `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`.

    Raises:
        UploadError: If it is no video, too long, takes too long or ends the process that decodes it.
    """
    arrays = _apart(path, _inputs, processor, limits)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def check_video(path: str, limits: UploadLimits) -> None:
    """Find out whether an upload is a video that may be taken.

    Raises:
        UploadError: As in [`clip_inputs`].
    """
    _apart(path, _check_duration, limits)


def _check_duration(path: str, limits: UploadLimits) -> None:
    duration = decode_video(path, num_frames=1).info.duration
    if duration > limits.seconds:
        raise UploadError(f"is too long: {duration:,.0f} seconds, and at most {limits.seconds:,} seconds are taken.")


def _inputs(path: str, processor: TS2NetVideoProcessor, limits: UploadLimits) -> dict[str, Any]:
    _check_duration(path, limits)
    inputs = processor([path])
    return {name: inputs[name].numpy() for name in ("pixel_values_videos", "padding_mask_videos")}


def _apart(path: str, read: Callable[..., Any], *args: Any) -> Any:
    """What `read(path, *args)` returns in a process of its own, or an error that says why not."""
    context = process_context()
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, read, path, *args), daemon=True)
    process.start()
    theirs.close()
    name = path.replace("\\", "/").rpartition("/")[2]
    try:
        if not pipe.poll(_PATIENCE):
            raise UploadError(f"{name} takes too long to decode: more than {_PATIENCE:,.0f} seconds.")
        try:
            said, value = pipe.recv()
        except EOFError:
            process.join(_LONGEST_STOP)
            raise UploadError(f"{name} can't be read as a video: the process that decoded it crashed.") from None
    finally:
        pipe.close()
        process.kill()  # it holds nothing that has to be put in order
        process.join()
    if said is not None:
        raise UploadError(f"{name} {said}")
    return value


def _answer(pipe: Connection, read: Callable[..., Any], path: str, *args: Any) -> None:
    """Send what is wrong with an upload, and what was read of it."""
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):  # nobody waits for it any more
        answer: tuple[str | None, Any]
        try:
            answer = None, read(path, *args)
        except UploadError as error:
            answer = str(error), None
        except (ValueError, OSError, MemoryError, RuntimeError) as error:  # torch's is a RuntimeError
            answer = f"can't be read as a video: {without_folder(one_line(error), path)}.", None
        pipe.send(answer)
