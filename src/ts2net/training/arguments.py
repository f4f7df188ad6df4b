"""Arguments of a training run: transformers' `TrainingArguments` and the arguments that TS2-Net adds.

The defaults are the paper's recipe. The batch size is global, over all processes, because the loss compares every text
of a batch with every video. The result depends on the global batch size and not on the number of processes.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import get_int_from_env, parse_flag_from_env
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.utils import logging

from ..configuration_ts2net import TS2NetConfig
from ..hub.adapters import DEFAULT_TARGET
from .best_metric import less_is_better
from .run_settings import CHANGEABLE

logger = logging.get_logger(__name__)

DEFAULT_MAX_WORDS = 32

BEST_METRIC = "text_to_video_R@1"

# Environment variables of launchers for the number of processes: torchrun and accelerate, then MPI implementations.
_WORLD_SIZE_VARIABLES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]


@dataclass
class TS2NetTrainingArguments(TrainingArguments):
    """Arguments of `transformers.TrainingArguments`, with the paper's recipe (section 4.2) as defaults, and additions.

    Args:
        global_batch_size: Number of text-video pairs in a step, over all processes.
        per_device_train_batch_size: Optional; derived from `global_batch_size`.
        learning_rate: Peak learning rate of the parameters that CLIP does not have: token selector, temporal encoder,
            word interaction and adapters.
        clip_learning_rate: Peak learning rate of CLIP's own parameters. 0 freezes all of them.
        freeze_layers: Number of lower layers to freeze in each of CLIP's two transformers, together with the
            embeddings below them. 0 freezes nothing; -1 freezes both transformers and their projections.
        freeze_text_layers: `freeze_layers` for the text transformer only. `None` uses `freeze_layers`.
        freeze_vision_layers: `freeze_layers` for the vision transformer only. `None` uses `freeze_layers`.
        trunk_cache: Folder for the outputs of the frozen lower vision layers. They run once for each video, before the
            first step, and no epoch decodes a video. `None` runs them in every step.
        trunk_cache_gb: Maximum size of these outputs in gigabytes. If more is needed, nothing is stored.
        gradient_cache_chunk_size: Number of pairs that a process encodes at a time. The gradient is that of the whole
            batch, for the memory of one chunk and one more forward pass. `None` encodes the batch at once.
        lora_r: Rank of adapters (LoRA) on CLIP's layers, which are trained instead of CLIP's weights. `None` adds no
            adapters. Layers that CLIP does not have are trained as usual. Needs `ts2net[peft]`.
        lora_target: The layers that get adapters, by the last part of their names.
        peft_config: LoRA configuration written by PEFT, a file or folder, instead of `lora_r` and `lora_target`.
        num_frames: Maximum number of frames of a video; shorter videos are padded. `None` uses the benchmark's number,
            or else the model's.
        clock: Definition of a second of video, `"seconds"` or `"released"`, stored in the trained model's processor.
            `None` uses the benchmark's, or else the processor's.
        max_words: Maximum number of tokens of a text, including the start and end tokens; shorter texts are padded.
            `None` uses the benchmark's number, or else 32.
        shuffle_buffer: Number of encoded videos held in memory for shuffling, over all processes. The data is read in
            at most 64 lanes, and each lane shuffles its own share of the buffer. With 4096, a lane draws its next
            video from 64; with 1000, it would draw from 16, so that neighbours in the file would stay close.
        group_size: Number of successive clips of one group (the data's column `group`) that are put into one batch, as
            hard negatives of each other. 1 ignores groups.
        samples_per_epoch: Number of captions of the training set, for a stream of unknown length. Without it such a
            stream needs `max_steps`.
        same_video_negatives: Use captions of the same video in a batch as negatives of each other, as in the released
            code. Otherwise such pairs are left out of the denominators of the loss.
        released_optimizer: Use optimizer, schedule and weight decay of the released code; see
            `ts2net.training.released_optimizer`. `optim` and `lr_scheduler_type` must keep their defaults.
        selection_loss_weight: Weight, in the first step, of an additional loss on the selected tokens, for a model
            whose selection does not start to learn; see `ts2net.training.selection_loss`. It is not in the paper. The
            unweighted value is logged as `selection_loss`; `loss` includes the weighted value.
        selection_loss_steps: Number of steps over which `selection_loss_weight` falls linearly to 0; below 1, a share
            of the run.
        max_broken_share: Training stops when at least 20 videos, and more than this share of the videos read so far,
            could not be decoded.
        metric_for_best_model: The evaluation metric that selects the best checkpoint, by its logged name without
            `eval_`. A later checkpoint replaces the best only if it is better.
        greater_is_better: Optional; derived from `metric_for_best_model`.
        early_stopping_patience: Training stops after this many successive evaluations that do not improve on the best.
        learning_rate_range_test: Instead of training, run this many steps with growing learning rates and write a
            table of their losses; see `ts2net.training.learning_rate_range`. Nothing is evaluated, saved or pushed.
        logging_dir: Folder for TensorBoard's files. `None` creates a new folder in `output_dir/runs`.
        changed_settings: Names of the settings whose new values a resumed run uses. All other settings that affect the
            result must equal those of the checkpoint.

    FSDP 2 (`fsdp=True`) shards weights, gradients and optimizer state over the processes. Its checkpoints are also
    whole models, regardless of `state_dict_type`. FSDP 1 and DeepSpeed are not supported.

    Raises:
        ValueError: If a value is out of range, or an option of Trainer is set that has no or another effect here.
    """

    global_batch_size: int = field(
        default=128, metadata={"help": "Pairs of text and video in a step, over all processes."}
    )
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "Derived from global_batch_size and the number of processes."}
    )
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over all captions."})
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Peak learning rate of the parameters that CLIP does not have."}
    )
    clip_learning_rate: float = field(default=1e-7, metadata={"help": "Peak learning rate of CLIP's own parameters."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up; below 1, their share of the whole run."}
    )
    weight_decay: float = field(
        default=0.2, metadata={"help": "Weight decay of matrices and embeddings; biases, norms and scales have none."}
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Decay rate of the second moments."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "Added to the root of the second moments."})
    freeze_layers: int = field(
        default=0, metadata={"help": "Lower layers of both of CLIP's transformers that are not trained; -1 is all."}
    )
    freeze_text_layers: int | None = field(
        default=None, metadata={"help": "The same for the text alone; default: freeze_layers."}
    )
    freeze_vision_layers: int | None = field(
        default=None, metadata={"help": "The same for the frames alone; default: freeze_layers."}
    )
    trunk_cache: str | None = field(
        default=None, metadata={"help": "Folder for the outputs of vision layers that do not learn, to run them once."}
    )
    trunk_cache_gb: float = field(default=16.0, metadata={"help": "Maximum size of these outputs, in gigabytes."})
    gradient_cache_chunk_size: int | None = field(
        default=None, metadata={"help": "Pairs that a process encodes at a time; default: the whole batch."}
    )
    lora_r: int | None = field(
        default=None, metadata={"help": "Rank of adapters (LoRA) that are trained in place of CLIP's own weights."}
    )
    lora_target: list[str] = field(
        default_factory=lambda: list(DEFAULT_TARGET),
        metadata={"help": "Layers that get adapters, such as q_proj v_proj fc1 fc2 visual_projection."},
    )
    peft_config: str | None = field(
        default=None, metadata={"help": "A configuration of LoRA that PEFT has written, instead of lora_r."}
    )
    num_frames: int | None = field(
        default=None,
        metadata={"help": "Maximum frames of a video; default: the benchmark's, or the model's."},
    )
    max_words: int | None = field(
        default=None,
        metadata={"help": "Maximum tokens of a text, start and end included; default: the benchmark's, or 32."},
    )
    clock: str | None = field(
        default=None,
        metadata={
            "help": "How seconds of a video are counted: seconds, as players do, or released, as the released code "
            "does; default: the benchmark's."
        },
    )
    shuffle_buffer: int = field(
        default=4096, metadata={"help": "Encoded videos held in memory for shuffling, over all processes."}
    )
    group_size: int = field(
        default=1, metadata={"help": "Successive clips of one group that a batch takes together, as hard negatives."}
    )
    samples_per_epoch: int | None = field(
        default=None, metadata={"help": "Captions of a training set that does not know its length."}
    )
    same_video_negatives: bool = field(
        default=False, metadata={"help": "Captions of one video are each other's negatives, as in the released code."}
    )
    released_optimizer: bool = field(
        default=False, metadata={"help": "Take optimizer, schedule and weight decay from the released code."}
    )
    selection_loss_weight: float = field(
        default=0.0, metadata={"help": "Initial weight of a loss on the selected tokens; the paper has none."}
    )
    selection_loss_steps: float = field(
        default=0.2, metadata={"help": "Steps over which that weight falls to 0; below 1, their share of the run."}
    )
    max_broken_share: float = field(
        default=0.05, metadata={"help": "Stop when more than this share of the videos could not be decoded."}
    )

    dataloader_num_workers: int = field(
        default=4, metadata={"help": "Processes that decode videos, for each training process."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between logs; below 1, a share of all steps."})
    # A loss that is not finite ends the run, so there is nothing to filter.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Not used: such a loss ends the run."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, epoch, steps or best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep; the best is always kept."})
    metric_for_best_model: str | None = field(
        default=BEST_METRIC,
        metadata={"help": "The figure of an evaluation that decides which checkpoint is best; ties keep the earlier."},
    )
    greater_is_better: bool | None = field(default=None, metadata={"help": "Follows from metric_for_best_model."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations in a row without an improvement."}
    )
    learning_rate_range_test: int | None = field(
        default=None,
        metadata={"help": "Run this many steps with growing learning rates, to choose them; save no model."},
    )
    logging_dir: str | None = field(
        default=None, metadata={"help": "Folder for TensorBoard's files; default: a new one in output_dir/runs."}
    )
    changed_settings: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of settings whose new values a resumed run takes over; all others must be the same."},
    )
    per_device_eval_batch_size: int = field(
        default=16, metadata={"help": "Videos that a process encodes at a time in evaluation."}
    )
    # The columns of a dataset are videos and captions, which are not arguments of `forward`.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used."})
    # Every trained parameter contributes to every loss.
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Let DistributedDataParallel look for parameters without a gradient."}
    )

    def __post_init__(self) -> None:
        self._check_values()
        if self.learning_rate_range_test is not None:
            self._set_range_test(self.learning_rate_range_test)
        self._check_best_metric()
        # Check before the processes wait for each other, which reading `world_size` requires.
        share = self._share_of_batch(get_int_from_env(_WORLD_SIZE_VARIABLES, 1))
        batch_size = self.per_device_train_batch_size
        if batch_size is not None and batch_size != share:
            raise ValueError(
                f"per_device_train_batch_size={batch_size} does not go with "
                f"global_batch_size={self.global_batch_size}, which leaves {share} to each process: give "
                f"global_batch_size alone"
            )
        self.per_device_train_batch_size = share
        if torch.accelerator.current_accelerator(check_available=True) is None:
            self.use_cpu = True  # otherwise accelerate does not connect processes that have no GPU
        super().__post_init__()
        self.per_device_train_batch_size = self._share_of_batch(self.world_size)
        self._check_trackers()
        if self.early_stopping_patience is not None:
            self.restore_callback_states_from_checkpoint = True  # a resumed run continues its count
        if self.n_gpu > 1:
            logger.warning(
                f"one process uses one of the {self.n_gpu} GPUs: start it with `accelerate launch` to use all of them"
            )
            self.use_one_gpu()

    def _set_range_test(self, steps: int) -> None:
        """Set the arguments for a run of `steps` steps that only logs its losses."""
        self.max_steps, self.logging_steps, self.logging_strategy = steps, 1, "steps"
        self.eval_strategy = self.save_strategy = "no"
        self.eval_on_start = self.load_best_model_at_end = self.push_to_hub = False
        self.early_stopping_patience = self.resume_from_checkpoint = None

    def use_one_gpu(self) -> None:
        """Prevent Trainer from wrapping the model in DataParallel, which would split the batch of a loss."""
        self._n_gpu = 1

    def fit_model(self, config: TS2NetConfig) -> None:
        """Set the arguments that are `None` from a model.

        Raises:
            ValueError: If the model supports fewer frames, or selects no tokens although the selection loss is used.
        """
        if self.selection_loss_weight and config.selection_kind == "none":
            raise ValueError(
                f"selection_loss_weight={self.selection_loss_weight} needs selected tokens, but the model's "
                f"selection_kind is 'none'"
            )
        if self.num_frames is None:
            self.num_frames = config.num_frames
        if self.max_words is None:
            self.max_words = DEFAULT_MAX_WORDS
        if self.num_frames > config.num_frames:
            raise ValueError(f"num_frames={self.num_frames}, but the model has room for {config.num_frames} frames")

    def _share_of_batch(self, num_processes: int) -> int:
        if self.global_batch_size % num_processes:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} can't be split evenly over {num_processes} processes"
            )
        return self.global_batch_size // num_processes

    def _check_values(self) -> None:
        for name, least in [
            ("global_batch_size", 2),  # a single pair has no negatives
            ("freeze_layers", -1),
            ("freeze_text_layers", -1),
            ("freeze_vision_layers", -1),
            ("early_stopping_patience", 1),
            ("lora_r", 1),
            ("learning_rate_range_test", 10),
            ("gradient_cache_chunk_size", 1),
            ("num_frames", 1),
            ("max_words", 3),
            ("shuffle_buffer", 1),
            ("group_size", 1),
            ("samples_per_epoch", 1),
        ]:
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= self.max_broken_share <= 1:
            raise ValueError(f"max_broken_share must lie between 0 and 1, got {self.max_broken_share}")
        if self.clock not in (None, "seconds", "released"):
            raise ValueError(f"clock must be 'seconds' or 'released', got {self.clock!r}")
        if self.released_optimizer:
            for name in ("optim", "optim_args", "optim_target_modules", "lr_scheduler_type", "lr_scheduler_kwargs"):
                value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
                if value != default:
                    raise ValueError(f"released_optimizer decides optimizer and schedule, but {name}={value} is given")
        if not 0 < self.trunk_cache_gb < math.inf:
            raise ValueError(f"trunk_cache_gb must be a number above 0, got {self.trunk_cache_gb}")
        if self.lora_r is not None and self.peft_config is not None:
            raise ValueError(
                f"lora_r={self.lora_r} and peft_config={self.peft_config} both say which adapters: give one"
            )
        if self.clip_learning_rate < 0:
            raise ValueError(f"clip_learning_rate must be 0 or more, got {self.clip_learning_rate}")
        if not 0 <= self.selection_loss_weight < math.inf:
            raise ValueError(f"selection_loss_weight must be a number from 0, got {self.selection_loss_weight}")
        steps = self.selection_loss_steps
        if not 0 < steps < math.inf or (steps > 1 and steps != int(steps)):
            raise ValueError(
                f"selection_loss_steps must be a whole number of steps, or below 1 a share of the run, got {steps}"
            )
        if self.gradient_accumulation_steps != 1:
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} would train on small batches, whose "
                f"pairs have fewer negatives: to fit a large batch into memory give gradient_cache_chunk_size instead"
            )
        if self.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            raise ValueError(
                "DeepSpeed is not supported: FSDP 2 shards weights and optimizer state too; start with `accelerate "
                "launch` without --use_deepspeed, and give --fsdp instead of --deepspeed"
            )
        unused_options: list[tuple[str, Any, str]] = [
            ("auto_find_batch_size", False, "the batch is part of the loss; give gradient_cache_chunk_size"),
            ("label_smoothing_factor", 0.0, "the loss has no labels"),
            ("ignore_data_skip", False, "a resumed run goes on where it stopped, at no cost"),
            ("parallelism_config", None, "only data parallelism and FSDP 2 are supported"),
            ("train_sampling_strategy", "random", "videos are shuffled as they are read"),
            ("dataloader_drop_last", False, "every batch is a whole one"),
            ("dataloader_prefetch_factor", None, "workers read two batches ahead"),
            ("dataloader_persistent_workers", False, "workers run from the first to the last epoch"),
            ("prediction_loss_only", False, "evaluation gives recalls"),
            ("eval_accumulation_steps", None, "evaluation collects no predictions"),
            ("batch_eval_metrics", False, "recalls are those of the whole set"),
            ("include_for_metrics", [], "evaluation has its own metrics"),
            ("label_names", None, "there are no labels"),
        ]
        for name, unused, reason in unused_options:
            if getattr(self, name) != unused:
                raise ValueError(f"{name}={getattr(self, name)} can't be used: {reason}")
        for name in self.changed_settings:
            if name not in CHANGEABLE:
                raise ValueError(f"changed_settings: {name!r} can't be taken over, only {', '.join(CHANGEABLE)}")

    def _check_best_metric(self) -> None:
        metric = self.metric_for_best_model
        if metric is not None:
            greater = not less_is_better(metric)
            if self.greater_is_better not in (None, greater):
                raise ValueError(
                    f"greater_is_better={self.greater_is_better} contradicts metric_for_best_model={metric}, whose "
                    f"{'greater' if greater else 'smaller'} values are better"
                )
            self.greater_is_better = greater
        if self.early_stopping_patience is not None and (metric is None or self.eval_strategy == "no"):
            raise ValueError("early_stopping_patience needs evaluations: give eval_strategy and metric_for_best_model")

    def _check_trackers(self) -> None:
        """Check before the first step that the trackers are installed."""
        for name in self.report_to:
            try:
                for tracker in get_reporting_integration_callbacks([name]):
                    # A tracker that isn't installed is only partly built, so `__del__` of MLflow and Neptune fails.
                    type(tracker.__name__, (tracker,), {"__del__": lambda _: None})()
            except (RuntimeError, ImportError, ValueError) as error:
                raise ValueError(f"report_to={name}: {error}") from error
        if self.logging_dir is not None and "tensorboard" not in self.report_to:
            raise ValueError("logging_dir is where TensorBoard writes: give report_to=tensorboard too")
