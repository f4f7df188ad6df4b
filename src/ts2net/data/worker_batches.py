"""What workers decode, without PyTorch's advice on their number and without a random number of the run's."""

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
        dataset: What the workers read.
        options: Of the `DataLoader`.
    """
    with warnings.catch_warnings():
        # The number of workers is the recipe's, written for many cores, or the user's. On fewer cores it costs little.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        # A generator of its own: without one, a loader draws from the global one, on which the training depends.
        return iter(DataLoader(dataset, generator=torch.Generator().manual_seed(0), **options))


class RowDecoder(Dataset):
    """Decodes rows, in a worker. Its sampler gives the rows themselves, each with a key that comes back with it.

    Args:
        processor: The model's processor.
        num_frames: The most frames taken of a video, and what shorter ones are padded to.
    """

    def __init__(self, processor: TS2NetProcessor, num_frames: int) -> None:
        self._processor = processor
        self._num_frames = num_frames

    def __getitem__(self, item: tuple[Any, VideoRow]) -> tuple[Any, str, dict[str, torch.Tensor] | BrokenVideo]:
        key, row = item
        return key, row.video_id, video_tensors(row, self._processor, self._num_frames)
