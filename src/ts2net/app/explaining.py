"""Explanation of an indexed moment, computed from exactly the indexed frames, for the page and `ts2net explain`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from ..explanation import Explanation, explain_frames
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from ..search import VideoIndex
from .decoding import window_frames


def explain_window(
    index: VideoIndex,
    window: str,
    texts: Sequence[str],
    model: TS2NetModel,
    processor: TS2NetProcessor,
    computing: AbstractContextManager[object] | None = None,
    query_embeds: torch.Tensor | None = None,
) -> tuple[str, Explanation]:
    """Explain what the model saw in a window of an index.

    Args:
        index: The index.
        window: Name of the window; see `Hit.window`.
        texts: At least one text.
        model: The model of the index.
        processor: Processor of the model.
        computing: Context to enter while the model computes, such as a lock. Decoding runs outside it.
        query_embeds: Query embeddings to score instead of the texts; see [`explain_frames`].

    Returns:
        The id of the video, and the explanation.

    Raises:
        LookupError: If the index has no such window.
        ValueError: If the video can't be decoded.
        OSError: If the file of the video is missing or has changed since it was indexed, or the index can't be read.
    """
    moment = index.window(window)
    file = replace(index.open_video(moment.video_id), start=moment.start, end=moment.end)
    seen = window_frames(file, index.about.windows, processor.video_processor)
    with computing or nullcontext():
        return moment.video_id, explain_frames(model, processor, seen.frames, seen.seconds, texts, query_embeds)
