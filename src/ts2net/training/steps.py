"""The steps of a run as the loader that Trainer walks through, epoch by epoch.

Trainer resumes in the middle of an epoch by skipping the numbers of the steps that were done. So the loader's data set
is those numbers, and each comes with the next batch of readers that began at their saved positions: nothing is decoded
to be thrown away. The readers run on from one epoch to the next.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Any]


class EpochSteps(Dataset):
    """The steps of an epoch by number; each item is the next batch of the run, whatever its number.

    Args:
        steps_per_epoch: Number of steps.
        open_batches: Called once, when the first batch is taken. Returns a generator of the batches that are left.
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
        """End the readers."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def step_loader(steps: EpochSteps) -> DataLoader:
    """The loader that Trainer walks through once an epoch."""
    return DataLoader(
        steps,
        batch_size=1,
        collate_fn=_only,
        # One of its own, because a loader without draws from the global one, on which the training depends.
        generator=torch.Generator().manual_seed(0),
    )


def prepare_each(
    batches: Generator[Batch, None, None], prepare: Callable[[Batch], Batch]
) -> Generator[Batch, None, None]:
    """Yield each batch as `prepare` returns it, and close `batches` at the end."""
    with closing(batches):
        for batch in batches:
            yield prepare(batch)


def _only(batches: list[Batch]) -> Batch:
    return batches[0]
