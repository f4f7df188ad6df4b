"""Training data of a run: the length of an epoch and the remaining batches."""

import math
from collections.abc import Callable, Generator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import has_length

from ..data.training_batches import TrainingBatches
from ..data.trunk_states import TrunkStates
from ..parallel.read_ahead import read_ahead
from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments
from .steps import Batch, EpochSteps, prepare_each, step_loader


class RunData:
    """Opens a dataset for a run.

    Args:
        dataset: A dataset of the `datasets` library, streamed or not, with the standard columns.
        processor: The model's processor.
        args: The run's arguments.
        positions: Positions to resume from, as in [`RunData.positions`]. `None` starts at the beginning.
        states: Cached outputs of the locked vision layers; see [`TrainingBatches`].

    Raises:
        ValueError: If `dataset` is `None`, the length of an epoch is unknown, or the dataset is smaller than a batch.
    """

    def __init__(
        self,
        dataset: Any,
        processor: TS2NetProcessor,
        args: TS2NetTrainingArguments,
        positions: dict[str, list[int]] | None = None,
        states: TrunkStates | None = None,
    ) -> None:
        if dataset is None:
            raise ValueError("training needs a train_dataset")
        self._args = args
        self._steps_per_epoch = steps_per_epoch(dataset, args)
        self._steps: EpochSteps | None = None
        self._batches = TrainingBatches(
            dataset,
            processor,
            batch_size=args.global_batch_size,
            num_frames=cast(int, args.num_frames),  # the trainer has set both
            max_words=cast(int, args.max_words),
            seed=args.seed if args.data_seed is None else args.data_seed,
            process_index=args.process_index,
            num_processes=args.world_size,
            num_workers=args.dataloader_num_workers,
            shuffle_buffer=args.shuffle_buffer,
            positions=positions,
            same_video_negatives=args.same_video_negatives,
            group_size=args.group_size,
            states=states,
        )

    @property
    def positions(self) -> dict[str, list[int]]:
        """Reading positions of this process before the first batch. Each batch contains the positions after it."""
        return self._batches.positions

    def loader(self, steps_done: Callable[[], int]) -> DataLoader:
        """Return the loader of the steps of an epoch.

        Args:
            steps_done: Returns the number of completed steps of the run. Called when the first batch is requested.
        """
        num_steps = self._args.max_steps
        if num_steps <= 0:
            num_steps = math.ceil(self._args.num_train_epochs * self._steps_per_epoch)

        def open_batches() -> Generator[Batch, None, None]:
            # The next batch is assembled and prepared while the device processes the current batch.
            batches_left = self._batches.batches(num_steps - steps_done())
            return read_ahead(prepare_each(batches_left, self._to_device_early), capacity=1)

        self._steps = EpochSteps(self._steps_per_epoch, open_batches)
        return step_loader(self._steps)

    def close(self) -> None:
        """Stop the readers."""
        if self._steps is not None:
            self._steps.close()

    def _to_device_early(self, batch: Batch) -> Batch:
        """Start to copy a batch to the GPU while the GPU processes the previous batch.

        With a gradient cache the batch stays in host memory, because only a chunk of it may fit into GPU memory.
        """
        if self._args.device.type != "cuda":
            return batch
        moved = dict(batch)
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                if self._args.dataloader_pin_memory:
                    value = value.pin_memory()
                if not self._args.gradient_cache_chunk_size:
                    value = value.to(self._args.device, non_blocking=True)
                moved[name] = value
        return moved


def steps_per_epoch(dataset: Any, args: TS2NetTrainingArguments) -> int:
    """Return the number of whole batches of captions in a dataset, or `max_steps` if the number is unknown.

    Raises:
        ValueError: If neither is known, or the dataset has fewer captions than a batch has pairs.
    """
    captions = args.samples_per_epoch
    if captions is None and has_length(dataset):
        captions = sum(len(texts) for texts in dataset.select_columns("captions")["captions"])
    if captions is None:
        if args.max_steps <= 0:
            raise ValueError(
                "the number of captions of the training set is unknown: give samples_per_epoch or max_steps"
            )
        return args.max_steps
    if captions < args.global_batch_size:
        raise ValueError(
            f"the training set has {captions} captions, fewer than global_batch_size={args.global_batch_size}"
        )
    return captions // args.global_batch_size
