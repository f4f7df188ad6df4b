"""`transformers.Trainer` for TS2-Net: the loss of the whole batch, data that is streamed in lanes, safe checkpoints.

Notable here:
- Only what is different from Trainer is here. Mixed precision, compilation, trackers, callbacks and schedules are its.
- The figures of a run do not depend on the number of processes, nor on how often it was killed and resumed.
- Every checkpoint is a whole Hub folder: it loads with `AutoModel` and has its card.
"""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.constants import FSDP_MODEL_NAME
from accelerate.utils.memory import clear_device_cache
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.initialization import no_init_weights
from transformers.trainer_utils import HubStrategy, TrainOutput, has_length, speed_metrics
from transformers.utils import SAFE_WEIGHTS_NAME, PushInProgress, logging

from ..configuration_ts2net import TS2NetConfig
from ..data.lanes import DataLoadingError
from ..data.training_batches import TrainingBatches
from ..evaluation.retrieval import evaluate_retrieval
from ..hub import push_to_hub, save_hub_folder
from ..modeling_ts2net import TS2NetModel
from ..parallel.read_ahead import read_ahead
from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments
from .card import CardDetails, training_card
from .checkpoints import (
    STATE_FILES,
    DataState,
    checkpoints_in,
    clean_up,
    find_checkpoint,
    publish,
    remove,
    rotate,
    saving_folder,
    start_saving,
    step_of,
)
from .contrastive import ContrastiveLoss, contrastive_loss_over_processes
from .gradient_cache import GradientCache
from .monitoring import (
    BrokenVideos,
    EvaluationError,
    NonFiniteError,
    StepFigures,
    Stopwatch,
    TooManyBrokenVideosError,
    too_many_broken,
)
from .optimisation import LogitScaleLimit, freeze_lower_layers, split_off_clip, without_scales
from .steps import Batch, EpochSteps, prepare_each, step_loader
from .trained_processor import processor_of_run

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)

# Beside a saved model. It tells of this machine, so it is not pushed.
ARGUMENTS = "training_arguments.json"
# What the model's forward takes of a batch.
_MODEL_INPUTS = ("input_ids", "attention_mask", "pixel_values_videos", "padding_mask_videos", "selection_seeds")


class TS2NetTrainer(Trainer):
    """Trains a TS2-Net. It is used as any `transformers.Trainer` is.

    ```python
    trainer = TS2NetTrainer(model, args, train_dataset=train, eval_dataset=test, processing_class=processor)
    trainer.train(resume_from_checkpoint="auto")
    trainer.save_model()
    ```

    Args:
        model: The model.
        args: The settings.
        train_dataset: A dataset of `datasets`, streamed or not, with the standard columns; such as `load_benchmark`
            gives.
        eval_dataset: The same for evaluation, or several by name. Of several, the figure `metric_for_best_model` is
            that of the first, unless it begins with the name of another: `"few_text_to_video_R@1"`.
        processing_class: The model's processor.
        card: What the card says beside what the trainer knows.
        callbacks: Of Trainer.
        optimizers: An optimiser and a schedule to use instead of those of `args`.

    Raises:
        TypeError: If the model, its processor or `args` is of another kind.
        ValueError: If `args` does not fit the model.
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
    ) -> None:
        for name, thing, kind in [
            ("model", model, TS2NetModel),
            ("args", args, TS2NetTrainingArguments),
            ("processing_class", processing_class, TS2NetProcessor),
        ]:
            if not isinstance(thing, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got a {type(thing).__name__}")
        if args.num_frames is None:
            args.num_frames = model.config.num_frames
        if args.num_frames > model.config.num_frames:
            raise ValueError(
                f"num_frames={args.num_frames}, but the model has room for {model.config.num_frames} frames"
            )
        if isinstance(eval_dataset, dict):
            _measure_by_one_of(args, list(eval_dataset))
        freeze_lower_layers(model, args.freeze_layers)
        super().__init__(
            model=model,
            args=args,
            eval_dataset=eval_dataset,
            processing_class=processor_of_run(cast(TS2NetProcessor, processing_class), args),
            callbacks=[LogitScaleLimit(), *(callbacks or [])],
            optimizers=optimizers,
        )
        vars(self.model.config).pop("use_cache", None)  # Trainer's, for models that generate
        if self.is_fsdp_enabled:
            self._prepare_for_fsdp()
        # Not by the base class, which would ask a stream for its length.
        self.train_dataset = train_dataset
        self.card_details = card or CardDetails()
        self._resumed: DataState | None = None
        self._steps: EpochSteps | None = None
        self._batches: TrainingBatches | None = None
        self._positions: dict[str, list[int]] = {}
        self._video_ids: list[str] = []
        self._saving_to: Path | None = None
        self._eval_sizes: dict[str, int] = {}
        self._start_counting()

    def _prepare_for_fsdp(self) -> None:
        plugin = self.accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise ValueError(f"FSDP version {plugin.fsdp_version} can't be used: give version 2")
        # Saved in shards, a checkpoint would be no model that loads, and the list of its shards is a pickle.
        plugin.set_state_dict_type("FULL_STATE_DICT")
        if plugin.transformer_cls_names_to_wrap is None:
            # All transformer layers are of this class. Accelerate itself wraps the text embeddings, so these must not
            # be wrapped as one of the modules that the model does not split.
            plugin.transformer_cls_names_to_wrap = ["CLIPEncoderLayer"]
        # `fully_shard` takes no scalar. `_model_of` makes it one again in whatever is saved.
        scale = self.model.logit_scale
        self.model.logit_scale = nn.Parameter(scale.detach().reshape(1), requires_grad=scale.requires_grad)

    # ---- Data ----

    def get_train_dataloader(self) -> DataLoader:
        """The loader of the steps of an epoch, which goes on where the run was left.

        Raises:
            ValueError: If there is no training data, or it is unknown how long an epoch is.
        """
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset")
        steps_per_epoch = self._steps_per_epoch()
        run_steps = self.args.max_steps
        if run_steps <= 0:
            run_steps = math.ceil(self.args.num_train_epochs * steps_per_epoch)
        self._batches = TrainingBatches(
            self.train_dataset,
            self.processing_class,
            batch_size=self.args.global_batch_size,
            num_frames=self.args.num_frames,
            max_words=self.args.max_words,
            seed=self._data_settings()["seed"],
            process_index=self.args.process_index,
            num_processes=self.args.world_size,
            num_workers=self.args.dataloader_num_workers,
            shuffle_buffer=self.args.shuffle_buffer,
            positions=self._resumed.positions if self._resumed else None,
        )
        self._positions = self._batches.positions
        batches = self._batches

        def open_batches() -> Generator[Batch, None, None]:
            # The next batch is joined from its workers' parts and prepared while the device works on this one.
            batches_left = batches.batches(run_steps - self.state.global_step)
            return read_ahead(prepare_each(batches_left, self._to_device_early), capacity=1)

        self._steps = EpochSteps(steps_per_epoch, open_batches)
        return step_loader(self._steps)

    def num_examples(self, dataloader: DataLoader) -> int:
        """Pairs that an epoch trains on."""
        return len(dataloader) * self.args.global_batch_size

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Take the next batch, note how long that took, and count its videos.

        Raises:
            DataLoadingError: On all processes, if one of them can't read its data.
            TooManyBrokenVideosError: On all processes, if too many of the videos of all of them can't be used.
        """
        failure = None
        taken: tuple[list[Batch], Any] = [], None
        try:
            with self._stopwatch.waiting():
                taken = super().get_batch_samples(*args, **kwargs)
        except DataLoadingError as error:
            failure = error
        for batch in taken[0]:
            self._broken.add(len(batch["video_ids"]), batch["broken"])
        self._stop_together(failure)
        return taken

    def _stop_together(self, failure: DataLoadingError | None) -> None:
        """Stop all processes at once: the others would wait for the one that stops alone."""
        counts = [self._broken.videos_read, self._broken.videos_broken, int(failure is not None)]
        totals = self.accelerator.reduce(torch.tensor(counts, device=self.args.device), "sum")
        videos_read, videos_broken, num_failures = totals.tolist()
        if num_failures:
            reasons = gather_object([str(failure or "")])
            raise DataLoadingError(next(filter(None, reasons))) from failure
        if too_many_broken(videos_read, videos_broken, self.args.max_broken_share):
            examples = [f"{name!r} ({reason})" for name, reason in list(self._data_state().broken.items())[:3]]
            raise TooManyBrokenVideosError(
                f"{videos_broken} of {videos_read} training videos could not be used, more than "
                f"max_broken_share={self.args.max_broken_share} allows; for instance {', '.join(examples)}"
            )

    def _steps_per_epoch(self) -> int:
        captions = self.args.samples_per_epoch
        if captions is None and has_length(self.train_dataset):
            rows: Any = self.train_dataset
            captions = sum(len(texts) for texts in rows.select_columns("captions")["captions"])
        if captions is None:
            if self.args.max_steps <= 0:
                raise ValueError(
                    "how many captions the training set has is not known: give samples_per_epoch or max_steps"
                )
            return self.args.max_steps
        if captions < self.args.global_batch_size:
            raise ValueError(
                f"the training set has {captions} captions, fewer than global_batch_size={self.args.global_batch_size}"
            )
        return captions // self.args.global_batch_size

    def _data_settings(self) -> dict[str, int]:
        """What the order of the data depends on."""
        return {
            "seed": self.args.seed if self.args.data_seed is None else self.args.data_seed,
            "global_batch_size": self.args.global_batch_size,
            "shuffle_buffer": self.args.shuffle_buffer,
        }

    def _to_device_early(self, batch: Batch) -> Batch:
        """Start a batch's way to a GPU while that still works on the batch before.

        With a gradient cache it stays in the host's memory: only a chunk of it may fit the device.
        """
        if self.args.device.type != "cuda":
            return batch
        moved = dict(batch)
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                if self.args.dataloader_pin_memory:
                    value = value.pin_memory()
                if not self.args.gradient_cache_chunk_size:
                    value = value.to(self.args.device, non_blocking=True)
                moved[name] = value
        return moved

    # ---- Optimiser ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Trainer's optimiser, in which CLIP's parameters have a learning rate of their own."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        split_off_clip(optimizer, self.model if model is None else model, self.args.clip_learning_rate)
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weights only: matrices and embeddings, but no bias, norm, scale, nor the [CLS] token."""
        return without_scales(super().get_decay_parameter_names(model))

    # ---- A step ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train.

        Args:
            resume_from_checkpoint: A checkpoint's folder; `True`, the last one of `output_dir`; `"auto"`, the last
                one if there is one.
            args: As Trainer's.
            kwargs: As Trainer's.

        Raises:
            NonFiniteError: If a loss or a gradient is NaN or infinite.
            TooManyBrokenVideosError: If too many videos can't be used.
            DataLoadingError: If the data can't be read.
            EvaluationError: If the evaluation data can't be used.
            ValueError: If the checkpoint is of a run with other data or another batch.
        """
        if self.args.should_save:
            clean_up(Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()
        checkpoint = self._take_up(resume_from_checkpoint)
        if checkpoint is not None:
            logger.warning(f"going on from {checkpoint}")
        self._start_counting()
        try:
            return super().train(None if checkpoint is None else str(checkpoint), *args, **kwargs)
        finally:
            if self._steps is not None:
                self._steps.close()

    def check(self, resume_from_checkpoint: str | bool | None = None) -> None:
        """Look at everything that can be wrong before the first step of [`TS2NetTrainer.train`].

        Raises:
            ValueError: If the data doesn't fit the settings, the processes or the checkpoint.
            OSError: If there is no such checkpoint.
        """
        self._take_up(resume_from_checkpoint)
        self.get_train_dataloader()

    def _take_up(self, resume_from_checkpoint: str | bool | None) -> Path | None:
        """Find the checkpoint to go on from, and read where its run was in the data."""
        choice: list[Path | Exception | None] = [None]
        if self.is_world_process_zero():
            try:
                choice[0] = find_checkpoint(resume_from_checkpoint, Path(self.args.output_dir))
            except (ValueError, OSError) as error:
                choice[0] = error
        # `auto` must not go on in one process and start anew in another, on a disk that they don't share.
        (checkpoint,) = broadcast_object_list(choice)
        if isinstance(checkpoint, Exception):
            raise checkpoint
        self._resumed = None
        if checkpoint is not None:
            if not all(gather_object([checkpoint.is_dir()])):
                raise FileNotFoundError(
                    f"{checkpoint}: only some of the processes find it; expected a folder on a disk that all share"
                )
            self._check_kind(checkpoint)
            self._resumed = DataState.load(checkpoint)
            self._resumed.check_settings(self._data_settings(), checkpoint)
        return checkpoint

    def _check_kind(self, checkpoint: Path) -> None:
        """Refuse a checkpoint whose optimiser was spread over processes in another way."""
        if (checkpoint / "optimizer.bin").exists() != self.is_fsdp_enabled:
            was, is_ = ("without", "with") if self.is_fsdp_enabled else ("with", "without")
            raise ValueError(
                f"{checkpoint} was written {was} FSDP and this run is {is_} it, so it can't go on from it"
            )

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add the gradient of a batch to the parameters.

        Returns:
            This process's part of the loss. Their mean is the loss of the whole batch.
        """
        self._positions = inputs["positions"]
        self._video_ids = inputs["video_ids"]
        self._stopwatch.add_clips(len(self._video_ids))
        tensors = {name: inputs[name] for name in (*_MODEL_INPUTS, "video_keys")}
        if not self.args.gradient_cache_chunk_size:
            return super().training_step(model, tensors, num_items_in_batch)
        # As the base class does it, whose step is another.
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        self._figures.start_step(tensors)
        video_keys = tensors.pop("video_keys")
        chunk_size = self.args.gradient_cache_chunk_size
        cache = GradientCache(model, chunk_size, self.accelerator.backward, self._figures.watch)
        result = cache.step(tensors, video_keys)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        self._check(result)
        return result.loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This process's part of the loss over the batches of all processes."""
        inputs = dict(inputs)
        video_keys = inputs.pop("video_keys")
        self._figures.start_step(inputs)
        outputs = model(**inputs)
        self._figures.watch(outputs)
        result = contrastive_loss_over_processes(
            model,
            outputs.text_embeds,
            outputs.video_embeds,
            outputs.logit_scale,
            inputs["padding_mask_videos"],
            video_keys,
        )
        self._check(result)
        return (result.loss, outputs) if return_outputs else result.loss

    def _check(self, result: ContrastiveLoss) -> None:
        """Stop if the loss is not finite; it is the same on all processes, so they stop together."""
        loss = result.global_loss.item()
        if not math.isfinite(loss):
            raise NonFiniteError("loss", loss, self.state.global_step + 1, gather_object(self._video_ids))
        self._figures.add_accuracy(result.text_to_video_accuracy)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if not self._skips_overflow():
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            if not math.isfinite(float(whole)):
                raise NonFiniteError(
                    "norm of the gradient", float(whole), self.state.global_step + 1, gather_object(self._video_ids)
                )
        return norm

    def _skips_overflow(self) -> bool:
        """Whether this is fp16, whose scaler skips such steps, and looks for a smaller scale."""
        return getattr(self.accelerator, "scaler", None) is not None

    # ---- Figures ----

    def _start_counting(self) -> None:
        resumed = self._resumed
        counts = (resumed.videos_read, resumed.videos_broken) if resumed and self.args.process_index == 0 else (0, 0)
        self._broken = BrokenVideos(*counts, known=resumed.broken if resumed else None)
        self._stopwatch = Stopwatch()
        self._figures = StepFigures()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add to Trainer's figures those of TS2-Net's training.

        `batch_accuracy` is the share of texts that are nearest to their own video in the batch, `logit_scale` the
        logarithm of the factor on cosines, `clips_per_second` counts all processes without evaluating and saving,
        `data_wait_share` is the share of that time spent waiting for a batch, `selection_entropy` is explained at
        `selection_entropy` in `monitoring`, and `broken_videos` is how many different videos have been skipped so far.
        """
        if "loss" in logs:
            logs |= self._training_figures()
        elif "train_loss" in logs:  # what Trainer says of the whole run at its end
            logs["train_broken_videos"] = self._num_broken()
        super().log(logs, start_time)

    def _training_figures(self) -> dict[str, float]:
        clips, seconds, waited = self._stopwatch.read()
        entropy = self._figures.selection_entropy(self._config)
        entropies = [] if entropy is None else [entropy.sum().item(), len(entropy)]
        sums = torch.tensor([clips, waited / seconds, *entropies], device=self.args.device)
        clips, wait_shares, *entropies = self.accelerator.reduce(sums, "sum").tolist()
        figures = self._figures.read()
        if entropies:
            figures["selection_entropy"] = entropies[0] / entropies[1]
        return figures | {
            "clips_per_second": clips / seconds,
            "data_wait_share": wait_shares / self.args.world_size,
            "broken_videos": self._num_broken(),
        }

    def _num_broken(self) -> int:
        return len(self._broken.known) + sum(gather_object([len(self._broken.found)]))

    @property
    def _config(self) -> TS2NetConfig:
        """The model's, whatever the model is wrapped in."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False).config

    # ---- Evaluation ----

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Search the evaluation data with its own captions, in both directions.

        Args:
            eval_dataset: To use instead of the trainer's; several by name are evaluated one after the other.
            ignore_keys: Not used; there are no predictions to collect.
            metric_key_prefix: Put before the name of each figure: `eval_text_to_video_R@1`, ...

        Returns:
            The figures of [`evaluate_retrieval`], without the dual softmax, and the number of broken videos.

        Raises:
            EvaluationError: If the data can't be used.
            MainProcessError: On the other processes, if it fails on the main one alone.
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
        model = self._whole_model()
        try:
            with self._stopwatch.paused(), self.accelerator.autocast():
                result = evaluate_retrieval(
                    model,
                    eval_dataset,
                    self.processing_class,
                    num_frames=self.args.num_frames,
                    max_words=self.args.max_words,
                    batch_size=self.args.per_device_eval_batch_size,
                    num_workers=self.args.dataloader_num_workers,
                    num_videos=self._eval_sizes.get(metric_key_prefix),
                    progress=not self.args.disable_tqdm,
                )
        except (ValueError, OSError) as error:
            raise EvaluationError(f"{metric_key_prefix} at step {self.state.global_step}: {error}") from error
        self._eval_sizes[metric_key_prefix] = result.num_videos
        for video in result.broken if self.is_world_process_zero() else []:
            logger.warning(f"video {video.video_id!r} of the evaluation can't be used: {video.reason}")
        metrics = {
            f"{metric_key_prefix}_{name.replace('-', '_').replace(' ', '_')}": value
            for name, value in result.metrics.items()
        }
        metrics[f"{metric_key_prefix}_videos"] = result.num_videos
        metrics[f"{metric_key_prefix}_queries"] = result.num_texts
        metrics[f"{metric_key_prefix}_broken_videos"] = result.num_missing
        metrics |= speed_metrics(metric_key_prefix, start_time, num_samples=result.num_videos)
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _whole_model(self) -> TS2NetModel:
        """The model with all of its weights on this process, also where each has a shard of it."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if not self.is_fsdp_enabled:
            return model
        state = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True))
        return _model_of(self._config, state).to(self.args.device)

    # ---- Saving ----

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_fsdp_enabled and self.args.should_save:
            # The weights once more, as a pickle. `_load_sharded` takes them from the safetensors.
            (Path(output_dir) / f"{FSDP_MODEL_NAME}.bin").unlink()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            self._load_sharded(Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            self._load_sharded(Path(str(self.state.best_model_checkpoint)))
        else:
            super()._load_best_model()

    def _load_sharded(self, checkpoint: Path) -> None:
        """Give each process its shard of a checkpoint's weights, which the main one reads."""
        state: dict[str, Any] = {}
        if self.is_world_process_zero():
            state = load_file(checkpoint / SAFE_WEIGHTS_NAME)
            state["logit_scale"] = state["logit_scale"].reshape(1)
        whole_from_main = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(self.model, state, options=whole_from_main)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Save a whole Hub folder: weights, configuration, processor, code and card. No pickle is among it."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if state_dict is not None:  # gathered from shards
            model = _model_of(self._config, state_dict)
        save_hub_folder(model, self.processing_class, folder, card=self.model_card(self.hub_model_id))
        (folder / ARGUMENTS).write_text(self.args.to_json_string() + "\n", encoding="utf-8")

    def model_card(self, repo_id: str | None = None) -> ModelCard:
        """The card of the weights as they are now."""
        step = self.state.global_step
        if not self.is_in_train and self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            step = step_of(Path(self.state.best_model_checkpoint)) or step
        names = list(self.eval_dataset) if isinstance(self.eval_dataset, dict) else ()
        return training_card(self._config, self.card_details, self.args, self.state, step, repo_id, eval_names=names)

    def create_model_card(self, **details: Any) -> None:
        """Write the card into `output_dir`.

        Args:
            details: Fields of [`CardDetails`] to set.
        """
        for name, value in details.items():
            if not hasattr(self.card_details, name):
                raise TypeError(f"{name!r} is no detail of the card")
            setattr(self.card_details, name, value)
        if self.is_world_process_zero():
            self.model_card(self.hub_model_id).save(Path(self.args.output_dir) / "README.md")

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint in a folder of its own, and give it its name once it is whole."""
        run_dir = Path(super()._get_output_dir(trial))
        checkpoint = run_dir / f"checkpoint-{self.state.global_step}"
        with self._stopwatch.paused():
            if self.args.should_save:
                start_saving(run_dir)
            self.accelerator.wait_for_everyone()
            with self._saving_in(saving_folder(run_dir)):
                super()._save_checkpoint(model, trial)
            written = saving_folder(run_dir) / checkpoint.name
            # What Trainer found out in a folder that soon has another name.
            best = run_dir / f"checkpoint-{self.state.best_global_step}"
            if best == checkpoint or best.is_dir():
                self.state.best_model_checkpoint = str(best)
            data_state = self._data_state()
            if self.args.should_save:
                self.state.save_to_json(written / "trainer_state.json")
                if not self.args.save_only_model:
                    data_state.save(written)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish(written, checkpoint)
            self.accelerator.wait_for_everyone()
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(checkpoint))
            if self.args.should_save:
                # Not `best`: with more evaluations than checkpoints, that step may never have been saved.
                best_saved = self.state.best_model_checkpoint
                rotate(run_dir, self.args.save_total_limit, {checkpoint, *([Path(best_saved)] if best_saved else [])})

    def _finalize_training(self, *args: Any, **kwargs: Any) -> TrainOutput:
        best = self.state.best_model_checkpoint
        if best is not None and self.args.should_save and self.args.save_total_limit == 1:
            # Trainer would leave the best one alone here, too, but half of another if it were killed meanwhile.
            for checkpoint in checkpoints_in(Path(self.args.output_dir)):
                if checkpoint.absolute() != Path(best).absolute():
                    remove(checkpoint)
        return super()._finalize_training(*args, **kwargs)

    @contextmanager
    def _saving_in(self, folder: Path) -> Iterator[None]:
        self._saving_to = folder
        try:
            yield
        finally:
            self._saving_to = None

    def _data_state(self) -> DataState:
        """How far the data has been read, by all processes."""
        parts = gather_object(
            [(self._positions, self._broken.videos_read, self._broken.videos_broken, self._broken.found)]
        )
        return DataState(
            positions={lane: position for positions, *_ in parts for lane, position in positions.items()},
            settings=self._data_settings(),
            videos_read=sum(read for _, read, _, _ in parts),
            videos_broken=sum(broken for _, _, broken, _ in parts),
            broken=self._broken.known | {name: why for *_, found in parts for name, why in found.items()},
        )

    # ---- Hub ----

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        **details: Any,
    ) -> Any:
        """Save the model, and push it with its processor, code and card in one commit.

        Args:
            commit_message: Title of the commit.
            blocking: Wait for it.
            token: Instead of that of `args`.
            revision: Branch, instead of that of `args`.
            details: Fields of [`CardDetails`] to set.

        Returns:
            The commit, or a future of it if not `blocking`; `None` on all processes but the main one.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**details)
        self._finish_current_push()

        def push() -> Any:
            return push_to_hub(
                TS2NetModel.from_pretrained(self.args.output_dir),
                self.processing_class,
                self.hub_model_id,
                card=self.model_card(self.hub_model_id),
                private=self.args.hub_private_repo,
                revision=revision or self.args.hub_revision,
                commit_message=commit_message or "End of training",
                token=token or self.args.hub_token,
            )

        return push() if blocking else HfApi().run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint that has its name, as `hub_strategy` says. It is not deleted before that is done."""
        if self._saving_to is not None or not self.is_world_process_zero():
            return
        strategy = self.args.hub_strategy
        if strategy == HubStrategy.END:
            return
        self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        upload = partial(
            HfApi(token=self.args.hub_token).upload_folder,
            repo_id=self.hub_model_id,
            folder_path=checkpoint_folder,
            revision=self.args.hub_revision,
            run_as_future=True,
        )
        jobs = [upload(ignore_patterns=[*STATE_FILES, ARGUMENTS], commit_message=message)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            name = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else Path(checkpoint_folder).name
            jobs.append(upload(path_in_repo=name, delete_patterns="*", commit_message=f"{message}, checkpoint"))
        self.push_in_progress = PushInProgress(jobs)


def _measure_by_one_of(args: TS2NetTrainingArguments, names: list[str]) -> None:
    """Have the best checkpoint named by a figure that evaluations on several sets have."""
    metric = (args.metric_for_best_model or "").removeprefix("eval_")
    if metric and not any(metric.startswith(f"{name}_") for name in names):
        args.metric_for_best_model = f"{names[0]}_{metric}"


def _model_of(config: TS2NetConfig, state_dict: Mapping[str, Any]) -> TS2NetModel:
    """A model with these very tensors for its weights, gathered from shards; of them `logit_scale` has shape (1,)."""
    # Not on the meta device: buffers that no checkpoint has would stay there. Nor with random numbers of the run.
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        model = TS2NetModel(config)
    scalar = {"logit_scale": state_dict["logit_scale"].reshape(())}
    model.load_state_dict({**state_dict, **scalar}, assign=True)
    return model.eval()
