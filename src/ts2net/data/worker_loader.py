"""The loader of workers that decode: one that draws no random number of the run's and gives no advice."""

import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


def worker_loader(dataset: Dataset | IterableDataset, **options: Any) -> DataLoader:
    """Make a `DataLoader` whose workers decode videos.

    Args:
        dataset: What the workers read.
        options: Of the `DataLoader`.
    """
    with warnings.catch_warnings():
        # The number of workers is the recipe's, written for many cores, or the user's. On fewer cores it costs little.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        # A generator of its own: without one, a loader draws from the global one, on which the training depends.
        return DataLoader(dataset, generator=torch.Generator().manual_seed(0), **options)
