"""What the result of a run depends on, and in what a resumed run may differ from its checkpoint.

A checkpoint remembers all of it. A run that resumes from it must have the same values; a few may differ if the user
names them in `changed_settings`, and then the new ones count from there on.
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

# Arguments that decide the result. These may change between a checkpoint and the run that resumes from it.
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
# These may not: the data would be read in another order, or the optimizer's state would not fit.
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
# What only `python -m ts2net.training` knows of the data.
DATA_SETTINGS = ("train_data", "data_options", "eval_data", "eval_data_options")
CHANGEABLE = (*CHANGEABLE_ARGUMENTS, *DATA_SETTINGS)

# Fields of a configuration that say where it comes from, not what the model computes.
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
    """What the result of a run depends on, by name, in values that JSON can hold.

    Args:
        args: The run's arguments.
        model: The model as the run starts from it, not wrapped.
        processor: Its processor.
        data: Where the data comes from, by name. Of the names, [`DATA_SETTINGS`] may change.
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
    """Hash of a few numbers of each of CLIP's weights. New weights follow from `seed`."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if is_clip_parameter(name):
            values = weight.detach().flatten()
            samples = values[:: max(1, len(values) // _SAMPLES_PER_WEIGHT)].to("cpu", torch.float32)
            digest.update(name.encode() + samples.numpy().tobytes())
    return digest.hexdigest()[:16]


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the vocabulary, and of the tokens of a text whose words, accents and numbers it has to cut up."""
    tokens = tokenizer(_PROBE, verbose=False)["input_ids"]  # it may be longer than the model takes
    content = [sorted(tokenizer.get_vocab().items()), tokens]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def changes_since(
    checkpoint: str, saved: Mapping[str, Any], settings: Mapping[str, Any], accepted: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Compare the settings of a run with those of the checkpoint that it resumes from.

    Args:
        checkpoint: For messages.
        saved: The checkpoint's. Those that it doesn't have, because an older version wrote it, are not compared.
        settings: The run's.
        accepted: Names that may differ.

    Returns:
        The old and the new value of each that differs.

    Raises:
        ValueError: If one differs that is not accepted, or can't be changed.
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
    """Has a resumed run go on with its own settings where they may differ from the checkpoint's.

    Trainer would go on with the checkpoint's, which are part of the state of its optimizer, schedule and trainer.
    """

    def __init__(self) -> None:
        self.optimizer_settings: list[dict[str, Any]] = []
        """Of each parameter group of the new optimizer."""
        self.changes: Mapping[str, tuple[Any, Any]] = {}
        """As [`changes_since`] returns them."""

    def remember(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the settings of a new optimizer, before a checkpoint's state replaces them."""
        self.optimizer_settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the run's settings into the state that has been loaded."""
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
