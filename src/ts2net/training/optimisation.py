"""Freezing of parameters, and separate learning rates for CLIP's and the new parameters.

The optimizer is the one that Trainer creates. Only its parameter groups are split, to give CLIP's parameters their own
learning rate. The groups of the new parameters come first, and their rate is logged as `learning_rate`.
"""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling_ts2net import TS2NetModel

MAX_LOGIT_SCALE = math.log(100)

# Modules that CLIP does not have. They may be anywhere in a parameter name, because wrappers add prefixes.
_NEW_PARTS = ("token_selector.", "temporal_encoder.", "word_interaction.", ".lora_")
# Parameters without weight decay, in addition to the biases and norms that Trainer excludes.
_NO_DECAY = ("logit_scale", "class_embedding")


def is_clip_parameter(name: str) -> bool:
    """Whether a parameter of a TS2-Net, wrapped or not, comes from CLIP."""
    return not any(part in name for part in _NEW_PARTS)


def without_scales(decayed: Collection[str]) -> list[str]:
    """Return the names without the logit scale and the [CLS] token."""
    return [name for name in decayed if not name.endswith(_NO_DECAY)]


def split_off_clip(optimizer: torch.optim.Optimizer, model: nn.Module, learning_rate: float) -> None:
    """Move CLIP's parameters to separate groups at the end, with the same settings except for the learning rate.

    Args:
        optimizer: Optimizer of parameters of `model`, changed in place.
        model: A TS2-Net, wrapped or not.
        learning_rate: Learning rate of the new groups.
    """
    clip = {id(parameter) for name, parameter in model.named_parameters() if is_clip_parameter(name)}
    for group in list(optimizer.param_groups):
        settings = {name: value for name, value in group.items() if name != "params"}
        moved = [parameter for parameter in group["params"] if id(parameter) in clip]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in clip]
        optimizer.add_param_group(settings | {"params": moved, "lr": learning_rate})


def freeze_lower_layers(model: TS2NetModel, *, text: int, vision: int) -> None:
    """Freeze the lower layers of CLIP's transformers, and the embeddings below them.

    Args:
        model: The model, changed in place.
        text: Number of layers of the text transformer. 0 freezes nothing, not even the embeddings; -1 freezes the
            whole transformer and the text projection.
        vision: The same for the vision transformer and the visual projection.

    Raises:
        ValueError: If a transformer has fewer layers.
    """
    for name, num_layers, tower, projection in [
        ("text", text, model.text_model, model.text_projection),
        ("vision", vision, model.vision_model, model.visual_projection),
    ]:
        layers = tower.encoder.layers
        if num_layers > len(layers):
            raise ValueError(f"freeze_layers={num_layers}, but the {name} transformer has {len(layers)} layers")
        if num_layers < 0:
            frozen: list[nn.Module] = [tower, projection]
        elif num_layers:
            before = [tower.pre_layrnorm] if name == "vision" else []
            frozen = [tower.embeddings, *before, *layers[:num_layers]]
        else:
            frozen = []
        for module in frozen:
            module.requires_grad_(False)


def lock_clip(model: TS2NetModel) -> None:
    """Freeze all parameters that come from CLIP."""
    for name, parameter in model.named_parameters():
        if is_clip_parameter(name):
            parameter.requires_grad_(False)


class LogitScaleLimit(TrainerCallback):
    """Callback that limits a trained `logit_scale` to ln 100 after each step, as in CLIP's training."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clamp `logit_scale`."""
        scale = kwargs["model"].logit_scale
        if scale.requires_grad:
            with torch.no_grad():
                scale.clamp_(max=MAX_LOGIT_SCALE)
