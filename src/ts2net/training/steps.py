"""The steps of a run as the loader that Trainer walks through, epoch by epoch.

Notable here: Trainer takes up a run in the middle of an epoch by skipping the numbers of the steps that were done. So
the loader's data set is those numbers, and the batches come, one a number, from readers that began at their saved
positions: nothing is decoded to be thrown away. Readers run on from one epoch to the next.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Any]


class EpochSteps(Dataset):
    """The numbers of the steps of an epoch; each comes with the next batch of the run.

    Args:
        steps_per_epoch: How many.
        open_batches: Opens the batches of the rest of the run. It is called when the first one is wanted.
    """

    def __init__(self, steps_per_epoch: int, open_batches: Callable[[], Iterator[Batch]]) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._open_batches = open_batches
        self._batches: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        if self._batches is None:
            self._batches = self._open_batches()
        return next(self._batches)

    def close(self) -> None:
        """End the readers."""
        if self._batches is not None:
            self._batches.close()  # type: ignore[attr-defined]
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


def read_ahead(batches: Iterator[Batch], prepare: Callable[[Batch], Batch]) -> Iterator[Batch]:
    """Have the next batch ready: joined from its workers' parts, and prepared, while the device works on this one.

    Args:
        batches: To read from, in a thread of its own.
        prepare: Called on each batch in that thread.

    Yields:
        The prepared batches. An exception of the thread is raised where its batch would have come.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for batch in batches:
                if not put(prepare(batch)):
                    break
            else:
                put(None)
        except BaseException as error:
            put(error)
        finally:
            batches.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _only(batches: list[Batch]) -> Batch:
    return batches[0]
