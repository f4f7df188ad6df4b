"""What workers decode, without PyTorch's advice on their number and without a random number of the run's."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


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
