"""Data loader of the steps of a run, which Trainer iterates once per epoch.

Trainer resumes in the middle of an epoch by skipping the indices of completed steps. So the loader's dataset consists
of step indices, and each item is the next batch of readers that start at their saved positions. No video is decoded
for a skipped step. The readers continue from one epoch to the next.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Any]


class EpochSteps(Dataset):
    """Dataset of the steps of an epoch. Each item is the next batch of the run, regardless of its index.

    Args:
        steps_per_epoch: Number of steps.
        open_batches: Called once, when the first batch is requested. Returns a generator of the remaining batches.
    """

    def __init__(self, steps_per_epoch: int, open_batches: Callable[[], Generator[Batch, None, None]]) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._open_batches = open_batches
        self._batches: Generator[Batch, None, None] | None = None

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        if self._batches is None:
            self._batches = self._open_batches()
        return next(self._batches)

    def close(self) -> None:
        """Stop the readers."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def step_loader(steps: EpochSteps) -> DataLoader:
    """Create the loader that Trainer iterates once per epoch."""
    return DataLoader(
        steps,
        batch_size=1,
        collate_fn=_only,
        # Its own generator, because otherwise it draws from the global one, which would change the training.
        generator=torch.Generator().manual_seed(0),
    )


def prepare_each(
    batches: Generator[Batch, None, None], prepare: Callable[[Batch], Batch]
) -> Generator[Batch, None, None]:
    """Apply `prepare` to each batch, and close `batches` at the end."""
    with closing(batches):
        for batch in batches:
            yield prepare(batch)


def _only(batches: list[Batch]) -> Batch:
    return batches[0]
