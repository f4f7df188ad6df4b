"""Rows of a dataset in, tensors of fixed shape out.

Every video is padded to the same number of frames and every text to the same number of words, so that all batches of a
run, on every process, have one shape. A video that can't be used is a value, never an exception.
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
        ValueError: If a number is too small, or more words are asked for than the tokenizer allows.
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
    """Decode the video of a row, between `start` and `end` where the row has them.

    Args:
        row: The row.
        processor: The model's processor.
        num_frames: The most frames taken, and what shorter videos are padded to.

    Returns:
        `pixel_values_videos` of shape `(num_frames, 3, H, W)` and `padding_mask_videos` of shape `(num_frames,)`; or,
        if the video can't be decoded, takes more memory than there is, is missing or ends before the moment begins, a
        [`BrokenVideo`].
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
        max_words: Tokens it is cut or padded to; the start and the end token count.

    Returns:
        `input_ids` and `attention_mask`, each of shape `(max_words,)`.
    """
    tokens = processor(text=text, padding="max_length", truncation=True, max_length=max_words)
    return {name: tokens[name][0] for name in ("input_ids", "attention_mask")}
