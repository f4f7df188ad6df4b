"""Data loading in workers that decode videos."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .collating import video_tensors
from .rows import VideoRow


def worker_batches(dataset: Dataset | IterableDataset, **options: Any) -> Iterator[Any]:
    """Iterate over a `DataLoader` whose workers decode videos.

    Args:
        dataset: The dataset that the workers read.
        options: Options of the `DataLoader`.
    """
    with warnings.catch_warnings():
        # The number of workers comes from a recipe for many cores or from the user, and costs little on fewer cores.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        # Without its own generator a loader would draw from the global one, on which the training depends.
        return iter(DataLoader(dataset, generator=torch.Generator().manual_seed(0), **options))


class RowDecoder(Dataset):
    """Dataset that decodes rows in a worker. Its sampler yields pairs of a key, which is returned, and a row.

    Args:
        processor: The model's processor.
        num_frames: Maximum number of frames per video. Shorter videos are padded to it.
    """

    def __init__(self, processor: TS2NetProcessor, num_frames: int) -> None:
        self._processor = processor
        self._num_frames = num_frames

    def __getitem__(self, item: tuple[Any, VideoRow]) -> tuple[Any, str, dict[str, torch.Tensor] | BrokenVideo]:
        key, row = item
        return key, row.video_id, video_tensors(row, self._processor, self._num_frames)
