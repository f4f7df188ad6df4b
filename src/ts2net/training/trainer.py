"""`transformers.Trainer` for TS2-Net: a loss over the global batch, streamed data and atomic checkpoints.

Mixed precision, compilation, trackers, callbacks and schedules are those of Trainer. The result of a run depends
neither on the number of processes nor on how often the run was killed and resumed. Every checkpoint is a complete Hub
folder that loads with `AutoModel` and has a card.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput, speed_metrics
from transformers.utils import logging

from ..data.lanes import DataLoadingError
from ..data.trunk_states import TrunkStates
from ..hub.adapters import has_adapters, trained_share
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .adapting import adapt
from .arguments import TS2NetTrainingArguments
from .best_metric import EarlyStopping, resolve_metric
from .card import CardDetails
from .checkpoints import (
    DataState,
    agree_on_checkpoint,
    clean_up,
    from_main_process,
    step_of,
)
from .contrastive import ContrastiveLoss, contrastive_loss_over_processes, loss_inputs
from .evaluating import evaluate_split, logged_figures
from .gradient_cache import GradientCache
from .learning_rate_range import growing_rates
from .monitoring import BrokenVideos, NonFiniteError, StepFigures, Stopwatch, training_figures, write_tensorboard_to
from .optimisation import LogitScaleLimit, freeze_lower_layers, lock_clip, split_off_clip, without_scales
from .released_optimizer import BertAdam, follow_released_schedule, released_decay
from .run_data import RunData
from .run_settings import TakeOverChanges, changes_since, run_settings
from .saving import SavingTrainer
from .selection_loss import faded_weight
from .sharding import sharding_of
from .steps import Batch
from .trained_processor import processor_of_run
from .trunk_cache import fill_trunk_cache, locked_vision_layers

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)

# The entries of a batch that are arguments of the model's `forward`.
_MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values_videos",
    "vision_hidden_states",
    "padding_mask_videos",
    "selection_seeds",
)


class TS2NetTrainer(SavingTrainer):
    """Trains a TS2-Net. Use it like any `transformers.Trainer`.

    ```python
    trainer = TS2NetTrainer(model, args, train_dataset=train, eval_dataset=test, processing_class=processor)
    trainer.train(resume_from_checkpoint="auto")
    trainer.save_model()
    ```

    Args:
        model: The model.
        args: The training arguments.
        train_dataset: A dataset of the `datasets` library, streamed or not, with the standard columns, such as
            `load_benchmark` returns.
        eval_dataset: The evaluation dataset, or several by name. With several, `metric_for_best_model` refers to the
            first, unless it begins with the name of another: `"few_text_to_video_R@1"`.
        processing_class: The model's processor.
        card: Additional details for the model card.
        callbacks: Additional callbacks of Trainer.
        optimizers: An optimizer and a schedule to use instead of those of `args`.
        data_settings: Origin of the data, by name. A resumed run must have the same.
        num_train_videos: Number of videos of `train_dataset`, if it is a stream of known length. Otherwise, for
            `args.trunk_cache`, the stream is read once to count them.

    Raises:
        TypeError: If the model, its processor or `args` is of another class.
        ValueError: If `args` does not fit the model or the evaluation data.
        ConnectionError: If `args.push_to_hub` is set and the Hub can't be used.
    """

    def __init__(
        self,
        model: TS2NetModel,
        args: TS2NetTrainingArguments,
        train_dataset: "datasets.Dataset | datasets.IterableDataset | None" = None,
        eval_dataset: "datasets.Dataset | datasets.IterableDataset | dict[str, Any] | None" = None,
        processing_class: TS2NetProcessor | None = None,
        card: CardDetails | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        data_settings: Mapping[str, Any] | None = None,
        num_train_videos: int | None = None,
    ) -> None:
        for name, argument, kind in [
            ("model", model, TS2NetModel),
            ("args", args, TS2NetTrainingArguments),
            ("processing_class", processing_class, TS2NetProcessor),
        ]:
            if not isinstance(argument, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got a {type(argument).__name__}")
        args.fit_model(model.config)
        processor = processor_of_run(cast(TS2NetProcessor, processing_class), args)
        args.metric_for_best_model = resolve_metric(args.metric_for_best_model, eval_dataset)
        adapt(model, processor, args)
        freeze_lower_layers(
            model,
            text=args.freeze_layers if args.freeze_text_layers is None else args.freeze_text_layers,
            vision=args.freeze_layers if args.freeze_vision_layers is None else args.freeze_vision_layers,
        )
        if args.clip_learning_rate == 0:
            lock_clip(model)
        self._num_locked = locked_vision_layers(model)
        if args.trunk_cache is not None and self._num_locked == 0:
            raise ValueError("trunk_cache needs vision layers that do not learn: give freeze_vision_layers")
        self._take_over = TakeOverChanges()
        default_callbacks: list[TrainerCallback] = [LogitScaleLimit(), self._take_over]
        if args.early_stopping_patience is not None:
            default_callbacks.append(EarlyStopping(args.early_stopping_patience))
        super().__init__(
            model=model,
            args=args,
            eval_dataset=eval_dataset,
            processing_class=processor,
            callbacks=[*default_callbacks, *(callbacks or [])],
            optimizers=optimizers,
        )
        if args.logging_dir is not None:
            write_tensorboard_to(args.logging_dir, self.callback_handler.callbacks)
        vars(self.model.config).pop("use_cache", None)  # set by Trainer for generative models
        self._settings = run_settings(args, model, processor, data_settings or {})
        self.sharding = sharding_of(self.accelerator)
        self.sharding.prepare(self.model)
        # Not set by the base class, which would request the length of a stream.
        self.train_dataset = train_dataset
        self.num_train_videos = num_train_videos
        self.card_details = card or CardDetails()
        self._resumed: DataState | None = None
        self.changes = []
        self._data: RunData | None = None
        self._states: TrunkStates | None = None
        self._positions: dict[str, list[int]] = {}
        self._video_ids: list[str] = []
        self._eval_sizes: dict[str, int] = {}
        self._start_counting()
        if has_adapters(self.model):
            trained, total = trained_share(self.model)
            logger.warning(f"adapters: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})")

    # ---- Data ----

    def get_train_dataloader(self) -> DataLoader:
        """Return the loader of the steps of an epoch, starting at the resumed position.

        Raises:
            ValueError: If there is no training data, the length of an epoch is unknown, or it is less than one batch.
        """
        positions = self._resumed.positions if self._resumed else None
        self._data = RunData(self.train_dataset, self.processing_class, self.args, positions, self._states)
        self._positions = self._data.positions
        return self._data.loader(lambda: self.state.global_step)

    def close_data(self) -> None:
        """Stop the readers of the training data."""
        if self._data is not None:
            self._data.close()

    def num_examples(self, dataloader: DataLoader) -> int:
        """Return the number of pairs in an epoch."""
        return len(dataloader) * self.args.global_batch_size

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Read the next batch, measure the waiting time, and count its videos.

        Raises:
            DataLoadingError: On all processes, if one process can't read its data.
            TooManyBrokenVideosError: On all processes, if too many videos of all processes are broken.
        """
        failure = None
        batches: tuple[list[Batch], Any] = [], None
        try:
            with self.stopwatch.waiting():
                batches = super().get_batch_samples(*args, **kwargs)
        except DataLoadingError as error:
            failure = error
        for batch in batches[0]:
            self._broken.add(len(batch["video_ids"]), batch["broken"])
        self._broken.check(self.args.max_broken_share, failure, self.accelerator)
        return batches

    # ---- Optimizer ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create Trainer's optimizer with a separate learning rate for CLIP's parameters."""
        if self.optimizer is None:
            optimizer = super().create_optimizer(model)
            split_off_clip(optimizer, self.model if model is None else model, self.args.clip_learning_rate)
        self._take_over.remember(self.optimizer)
        return self.optimizer

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[Any, Any]:
        """Return the optimizer class and its arguments: Trainer's, or those of the released code."""
        if cast(TS2NetTrainingArguments, args).released_optimizer:
            betas = (args.adam_beta1, args.adam_beta2)
            return BertAdam, {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon}
        return SavingTrainer.get_optimizer_cls_and_kwargs(args, model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Create Trainer's schedule, or the schedule of the released code or of a learning-rate range test."""
        if self.args.learning_rate_range_test is not None:
            self.lr_scheduler = growing_rates(self.optimizer if optimizer is None else optimizer, num_training_steps)
            return self.lr_scheduler
        creates_schedule = self.lr_scheduler is None
        schedule = super().create_scheduler(num_training_steps, optimizer)
        if creates_schedule and self.args.released_optimizer:
            warmup = self.args.get_warmup_steps(num_training_steps)
            follow_released_schedule(cast(LambdaLR, schedule), warmup, num_training_steps)
        return schedule

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return all parameters except biases, norms, the logit scale and [CLS], or those of the released code."""
        if self.args.released_optimizer:
            return released_decay(model)
        return without_scales(super().get_decay_parameter_names(model))

    # ---- A run ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train the model.

        Args:
            resume_from_checkpoint: A checkpoint folder; `True`: the last checkpoint of `output_dir`; `"auto"`: the
                last checkpoint if there is one.
            args: See `Trainer.train`.
            kwargs: See `Trainer.train`.

        Raises:
            NonFiniteError: If a loss or a gradient is NaN or infinite.
            TooManyBrokenVideosError: If too many videos are broken.
            DataLoadingError: If the data can't be read.
            EvaluationError: If the evaluation data can't be used.
            SavingError: If a checkpoint can't be written.
            ValueError: If the data, the model or the settings differ from those of the checkpoint.
        """
        if self.args.should_save:
            clean_up(Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()
        checkpoint = self._resume_from(resume_from_checkpoint)
        if checkpoint is not None:
            logger.warning(f"resuming from {checkpoint}")
        self._start_counting()
        if self.args.trunk_cache is not None:
            self._states = fill_trunk_cache(
                self.model,
                self.train_dataset,
                self.processing_class,
                self.args,
                self.accelerator,
                self.num_train_videos,
            )
        try:
            return super().train(None if checkpoint is None else str(checkpoint), *args, **kwargs)
        finally:
            self.close_data()

    def check(self, resume_from_checkpoint: str | bool | None = None) -> None:
        """Check, without training, that [`TS2NetTrainer.train`] can read its checkpoint and its data.

        Raises:
            ValueError: If the data doesn't fit the settings, the processes or the checkpoint.
            OSError: If the checkpoint does not exist.
        """
        self._resume_from(resume_from_checkpoint)
        self.get_train_dataloader()

    def _resume_from(self, choice: str | bool | None) -> Path | None:
        """Find the checkpoint, check that this run may resume from it, and read its data state."""
        is_main = self.is_world_process_zero()
        checkpoint = agree_on_checkpoint(choice, Path(self.args.output_dir), is_main=is_main)
        self._resumed, self.changes, self._take_over.changes = None, [], {}
        if checkpoint is None:
            return None
        self.sharding.check_checkpoint(checkpoint)
        state = DataState.load(checkpoint)
        changes = from_main_process(
            lambda: changes_since(str(checkpoint), state.settings, self._settings, self.args.changed_settings),
            is_main=is_main,
        )
        for name, (old, new) in changes.items():
            logger.warning(f"{name} is {new} from here on; {checkpoint} was written with {old}")
            state.changes.append({"step": step_of(checkpoint), "name": name, "old": old, "new": new})
        self._resumed, self.changes, self._take_over.changes = state, state.changes, changes
        return checkpoint

    def data_state(self) -> DataState:
        """Return the reading positions of all processes, the counts of broken videos and the settings of the run."""
        broken = self._broken.total()
        return DataState(
            positions={lane: position for part in gather_object([self._positions]) for lane, position in part.items()},
            settings=self._settings,
            videos_read=broken.videos_read,
            videos_broken=broken.videos_broken,
            broken=broken.reported,
            changes=self.changes,
        )

    # ---- A step ----

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add the gradient of a batch to the parameters' `grad`.

        Returns:
            This process's part of the loss. The mean over all processes is the loss of the whole batch.
        """
        self._positions = inputs["positions"]
        self._video_ids = inputs["video_ids"]
        self.stopwatch.add_clips(len(self._video_ids))
        tensors = {name: inputs[name] for name in (*_MODEL_INPUTS, "video_keys") if name in inputs}
        if "vision_hidden_states" in tensors:
            tensors["first_vision_layer"] = self._num_locked
        chunk_size = self.args.gradient_cache_chunk_size
        if not chunk_size:
            return super().training_step(model, tensors, num_items_in_batch)
        # The same as in `training_step` of the base class.
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        self._figures.start_step(tensors)
        video_keys = tensors.pop("video_keys")
        cache = GradientCache(model, chunk_size, self.accelerator.backward, self._figures.watch)
        result = cache.step(tensors, video_keys, self._selection_weight())
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        self._check_loss(result)
        return result.loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Compute this process's part of the loss over the batches of all processes."""
        inputs = dict(inputs)
        video_keys = inputs.pop("video_keys")
        self._figures.start_step(inputs)
        outputs = model(**inputs)
        self._figures.watch(outputs)
        weight = self._selection_weight()
        result = contrastive_loss_over_processes(
            model,
            **loss_inputs(outputs, weight),
            padding_mask_videos=inputs["padding_mask_videos"],
            video_keys=video_keys,
            selection_weight=weight,
        )
        self._check_loss(result)
        return (result.loss, outputs) if return_outputs else result.loss

    def _selection_weight(self) -> float:
        """Return the weight of the selection loss in the current step."""
        args = self.args
        if args.learning_rate_range_test is not None:  # its losses must be comparable
            return args.selection_loss_weight
        return faded_weight(
            args.selection_loss_weight, args.selection_loss_steps, self.state.global_step, self.state.max_steps
        )

    def _check_loss(self, result: ContrastiveLoss) -> None:
        """Stop if the loss is not finite. The global loss is the same on all processes, so they stop together."""
        self._check_finite("loss", result.global_loss.item())
        self._figures.add(result)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return Trainer's gradient norm, and stop before the optimizer's step if it is not finite."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if getattr(self.accelerator, "scaler", None) is None:  # fp16's scaler skips such steps and lowers its scale
            self._check_finite("norm of the gradient", self.sharding.gradient_norm(norm))
        return norm

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise NonFiniteError(what, value, self.state.global_step + 1, gather_object(self._video_ids))

    # ---- Figures ----

    def _start_counting(self) -> None:
        resumed = self._resumed
        counts = (resumed.videos_read, resumed.videos_broken) if resumed and self.args.process_index == 0 else (0, 0)
        self._broken = BrokenVideos(*counts, reported=resumed.broken if resumed else None)
        self.stopwatch = Stopwatch()
        self._figures = StepFigures()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add [`training_figures`] and `broken_videos`, the number of distinct videos skipped so far."""
        if "loss" in logs:
            config = self.sharding.unwrapped(self.model).config
            logs |= training_figures(self.stopwatch, self._figures, config, self.accelerator)
            logs["broken_videos"] = len(self._broken.total().reported)
        elif "train_loss" in logs:
            logs["train_broken_videos"] = len(self._broken.total().reported)
            self.finish_files()
        super().log(logs, start_time)

    # ---- Evaluation ----

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate text-to-video and video-to-text retrieval on the evaluation data.

        Args:
            eval_dataset: Dataset to use instead of the trainer's. Several by name are evaluated one after the other.
            ignore_keys: Not used, because no predictions are collected.
            metric_key_prefix: Prefix of the metric names: `eval_text_to_video_R@1`, ...

        Returns:
            The metrics of [`evaluate_retrieval`], also with the dual softmax (`..._with_dual_softmax`), and the
            numbers of videos, of queries and of missing videos, whose queries count as missed.

        Raises:
            EvaluationError: If the data can't be used.
            MainProcessError: On the other processes, if only the main process fails.
            ValueError: If there is no evaluation data.
        """
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if eval_dataset is None:
            raise ValueError("evaluation needs an eval_dataset")
        if isinstance(eval_dataset, dict):
            parts = [
                self.evaluate(dataset, ignore_keys, f"{metric_key_prefix}_{name}")
                for name, dataset in eval_dataset.items()
            ]
            return {name: value for part in parts for name, value in part.items()}
        start_time = time.time()
        model = self.sharding.whole_model(self.model)
        with self.stopwatch.paused(), self.accelerator.autocast():
            result = evaluate_split(
                model,
                eval_dataset,
                self.processing_class,
                self.args,
                name=f"{metric_key_prefix} at step {self.state.global_step}",
                num_videos=self._eval_sizes.get(metric_key_prefix),
            )
        self._eval_sizes[metric_key_prefix] = result.num_videos
        for video in result.broken if self.is_world_process_zero() else []:
            logger.warning(f"video {video.video_id!r} of the evaluation can't be used: {video.reason}")
        metrics = logged_figures(result, metric_key_prefix)
        metrics |= speed_metrics(metric_key_prefix, start_time, num_samples=result.num_videos)
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
