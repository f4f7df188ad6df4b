"""Which parameters are trained, and at which learning rate.

The optimizer is whichever Trainer makes. Its groups are only split, so that CLIP's parameters have a learning rate of
their own. Those that CLIP does not have come first, and their rate is logged as `learning_rate`.
"""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling_ts2net import TS2NetModel

MAX_LOGIT_SCALE = math.log(100)

# What CLIP does not have. Inside a name, for wrappers put names of their own before it.
_NEW_PARTS = ("token_selector.", "temporal_encoder.", "word_interaction.", ".lora_")
# Vectors and scalars that are no weights, beside the biases and norms that Trainer knows.
_NO_DECAY = ("logit_scale", "class_embedding")


def is_clip_parameter(name: str) -> bool:
    """Whether a parameter of a TS2-Net, wrapped or not, has come from CLIP."""
    return not any(part in name for part in _NEW_PARTS)


def without_scales(decayed: Collection[str]) -> list[str]:
    """The names without those of scales and tokens: the logit scale and the [CLS] token."""
    return [name for name in decayed if not name.endswith(_NO_DECAY)]


def split_off_clip(optimizer: torch.optim.Optimizer, model: nn.Module, learning_rate: float) -> None:
    """Give CLIP's parameters groups of their own, after the others and otherwise like them.

    Args:
        optimizer: Over parameters of `model`. It is changed.
        model: A TS2-Net, wrapped or not.
        learning_rate: That of the new groups.
    """
    clip = {id(parameter) for name, parameter in model.named_parameters() if is_clip_parameter(name)}
    for group in list(optimizer.param_groups):
        settings = {name: value for name, value in group.items() if name != "params"}
        moved = [parameter for parameter in group["params"] if id(parameter) in clip]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in clip]
        optimizer.add_param_group(settings | {"params": moved, "lr": learning_rate})


def freeze_lower_layers(model: TS2NetModel, *, text: int, vision: int) -> None:
    """Stop training the lower layers of CLIP's transformers, and the embeddings below them.

    Args:
        model: The model. It is changed.
        text: Layers of the text transformer. 0 freezes nothing, not even the embeddings; -1 freezes all of it and the
            text projection.
        vision: The same of the vision transformer.

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
    """Stop training all that has come from CLIP."""
    for name, parameter in model.named_parameters():
        if is_clip_parameter(name):
            parameter.requires_grad_(False)


class LogitScaleLimit(TrainerCallback):
    """Keeps `logit_scale` at most ln 100 after each step, as CLIP's training does, where it is trained."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clamp."""
        scale = kwargs["model"].logit_scale
        if scale.requires_grad:
            with torch.no_grad():
                scale.clamp_(max=MAX_LOGIT_SCALE)
