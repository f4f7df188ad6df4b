"""Settings that affect the result of a run, and the changes that are allowed on resuming.

A checkpoint stores these settings, and a run that resumes from it must have the same values. Some settings may differ
if the user lists them in `changed_settings`. Their new values apply from the checkpoint on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..hub.adapters import adapter_settings
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .optimisation import is_clip_parameter

# Arguments that affect the result and may change between a checkpoint and the run that resumes from it.
CHANGEABLE_ARGUMENTS = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "clip_learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "num_frames",
    "clock",
    "max_words",
    "same_video_negatives",
    "selection_loss_weight",
    "selection_loss_steps",
    "bf16",
    "fp16",
    "tf32",
    "neftune_noise_alpha",
    "metric_for_best_model",
    "samples_per_epoch",
)
# Arguments that must not change, because the data order would differ or the optimizer state would not fit.
FIXED_ARGUMENTS = (
    "seed",
    "data_seed",
    "global_batch_size",
    "shuffle_buffer",
    "group_size",
    "released_optimizer",
    "optim",
    "optim_args",
    "optim_target_modules",
    "freeze_layers",
    "freeze_text_layers",
    "freeze_vision_layers",
)
# Settings of the data, which only `python -m ts2net.training` provides.
DATA_SETTINGS = ("train_data", "data_options", "eval_data", "eval_data_options")
CHANGEABLE = (*CHANGEABLE_ARGUMENTS, *DATA_SETTINGS)

# Fields of a configuration that describe its origin and not the computation of the model.
_NO_SETTINGS = (
    "_name_or_path",
    "processor_class",
    "transformers_version",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "dtype",
)
_SAMPLES_PER_WEIGHT = 64
_PROBE = "Two Frisbee-throwing dogs' owners weren't at the café: 1,234 o'clock \N{DOG FACE}"


def run_settings(
    args: TrainingArguments, model: TS2NetModel, processor: TS2NetProcessor, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that affect the result of a run, by name, in values that JSON can store.

    Args:
        args: The run's arguments.
        model: The initial model of the run, not wrapped.
        processor: The model's processor.
        data: Origin of the data, by name. Only [`DATA_SETTINGS`] may change on resuming.
    """
    values = {name: getattr(args, name) for name in (*CHANGEABLE_ARGUMENTS, *FIXED_ARGUMENTS)}
    values |= data
    values |= {f"model.{name}": value for name, value in _flat(model.config.to_dict())}
    values |= {
        f"video_processor.{name}": value
        for name, value in _flat(processor.video_processor.to_dict())
        if name not in CHANGEABLE_ARGUMENTS
    }
    values["model.weights"] = _fingerprint(model)
    values["adapters"] = adapter_settings(model)
    values["tokenizer"] = _tokenizer_fingerprint(processor.tokenizer)
    return json.loads(json.dumps(values, default=str))


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in config.items():
        if name in _NO_SETTINGS:
            continue
        nested = isinstance(value, dict) and name.endswith("_config")
        items += _flat(value, f"{prefix}{name}.") if nested else [(prefix + name, value)]
    return items


@torch.no_grad()
def _fingerprint(model: TS2NetModel) -> str:
    """Return a hash of a sample of the values of each of CLIP's weights. New weights are determined by `seed`."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if is_clip_parameter(name):
            values = weight.detach().flatten()
            samples = values[:: max(1, len(values) // _SAMPLES_PER_WEIGHT)].to("cpu", torch.float32)
            digest.update(name.encode() + samples.numpy().tobytes())
    return digest.hexdigest()[:16]


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of the vocabulary and of the tokens of a text with accents, numbers and an emoji."""
    tokens = tokenizer(_PROBE, verbose=False)["input_ids"]  # no warning if it exceeds the maximum length
    content = [sorted(tokenizer.get_vocab().items()), tokens]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def changes_since(
    checkpoint: str, saved: Mapping[str, Any], settings: Mapping[str, Any], accepted: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Compare the settings of a run with the settings of the checkpoint that it resumes from.

    Args:
        checkpoint: Name of the checkpoint, for messages.
        saved: Settings of the checkpoint. Settings that an older version did not save are not compared.
        settings: Settings of the run.
        accepted: Names of the settings that may differ.

    Returns:
        The old and the new value of each changed setting, by name.

    Raises:
        ValueError: If a changed setting is not in `accepted` or can't be changed.
    """
    changes = {name: (saved[name], value) for name, value in settings.items() if saved.get(name, value) != value}
    fixed = {name: values for name, values in changes.items() if name not in CHANGEABLE}
    if fixed:
        raise ValueError(
            f"{checkpoint} was written with {_differences(fixed)}: resume with the same, or start a new run from its "
            f"weights with another output_dir and --model {checkpoint}"
        )
    refused = {name: values for name, values in changes.items() if name not in accepted}
    if refused:
        raise ValueError(
            f"{checkpoint} was written with {_differences(refused)}: resume with the same, or take over what is new "
            f"with --changed_settings {' '.join(refused)}"
        )
    return changes


def _differences(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return "; with ".join(
        f"{name}={_shown(old)} and this run has {name}={_shown(new)}" for name, (old, new) in changes.items()
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class TakeOverChanges(TrainerCallback):
    """Callback that applies the changed settings of a resumed run.

    Trainer would use the settings of the checkpoint, which are in the states of optimizer, schedule and trainer.
    """

    def __init__(self) -> None:
        self.optimizer_settings: list[dict[str, Any]] = []
        """Settings of each parameter group of the new optimizer."""
        self.changes: Mapping[str, tuple[Any, Any]] = {}
        """The changed settings, as returned by [`changes_since`]."""

    def remember(self, optimizer: torch.optim.Optimizer) -> None:
        """Store the settings of a new optimizer before the state of a checkpoint replaces them."""
        self.optimizer_settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Apply the run's settings to the loaded state."""
        state.compute_steps(args, state.max_steps)  # when to log, evaluate and save
        if not self.changes:
            return
        optimizer, schedule = kwargs["optimizer"], kwargs["lr_scheduler"]
        if not isinstance(schedule, LambdaLR):
            raise ValueError(
                f"lr_scheduler_type={args.lr_scheduler_type} depends on what has happened so far, so changed_settings "
                f"can't be taken over"
            )
        base_rates = [settings["lr"] for settings in self.optimizer_settings]
        rates = [
            rate * course(schedule.last_epoch) for rate, course in zip(base_rates, schedule.lr_lambdas, strict=True)
        ]
        for group, settings, rate in zip(optimizer.param_groups, self.optimizer_settings, rates, strict=True):
            group.update(settings, initial_lr=settings["lr"], lr=rate)
        schedule.load_state_dict(schedule.state_dict() | {"base_lrs": base_rates, "_last_lr": rates})
