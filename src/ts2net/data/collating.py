"""Convert rows of a dataset to tensors of fixed shape.

Every video is padded to the same number of frames and every text to the same number of words, so that all batches of a
run have the same shape on every process. A video that can't be used is returned as a value, never raised.
"""

import av
import torch

from ..errors import one_line
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .rows import VideoRow


def check_sizes(processor: TS2NetProcessor, num_frames: int, max_words: int | None = None) -> None:
    """Check the lengths that videos and texts are padded to, before any worker starts.

    Raises:
        ValueError: If a number is too small, or `max_words` is larger than the tokenizer's maximum.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    longest = processor.tokenizer.model_max_length
    if max_words is not None and not 2 <= max_words <= longest:
        raise ValueError(
            f"max_words must lie between 2 (the start and the end token) and {longest}, which is the most that the "
            f"tokenizer allows, got {max_words}"
        )


def video_tensors(row: VideoRow, processor: TS2NetProcessor, num_frames: int) -> dict[str, torch.Tensor] | BrokenVideo:
    """Decode the video of a row, from `start` to `end` if the row has them.

    Args:
        row: The row.
        processor: The model's processor.
        num_frames: Maximum number of frames to sample. Shorter videos are padded to it.

    Returns:
        `pixel_values_videos` of shape `(num_frames, 3, H, W)` and `padding_mask_videos` of shape `(num_frames,)`. A
        [`BrokenVideo`] if the video is missing, can't be decoded, needs more memory than is available, or ends before
        the moment begins.
    """
    video = row.video
    if video is None or (isinstance(video, dict) and video.get("bytes") is None and video.get("path") is None):
        return BrokenVideo(row.video_id, "the video is missing")
    try:
        batch = processor.video_processor(
            videos=[video],
            start=[row.start],
            end=[row.end],
            num_frames=num_frames,
            do_sample_frames=True,
            do_pad=True,
            pad_to="num_frames",
            return_tensors="pt",
        )
    except (ValueError, TypeError, OSError, MemoryError, av.FFmpegError) as error:
        return BrokenVideo(row.video_id, one_line(error).removeprefix("<bytes>: "))
    return {name: batch[name][0] for name in ("pixel_values_videos", "padding_mask_videos")}


def text_tensors(text: str, processor: TS2NetProcessor, max_words: int) -> dict[str, torch.Tensor]:
    """Tokenise a text.

    Args:
        text: The text.
        processor: The model's processor.
        max_words: Number of tokens to truncate or pad to, including the start and the end token.

    Returns:
        `input_ids` and `attention_mask`, each of shape `(max_words,)`.
    """
    tokens = processor(text=text, padding="max_length", truncation=True, max_length=max_words)
    return {name: tokens[name][0] for name in ("input_ids", "attention_mask")}
