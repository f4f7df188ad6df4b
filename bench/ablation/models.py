"""The rows of the tables as models: what each is made of, and the CLIP that all of a seed start from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from ts2net.configuration_ts2net import TS2NetConfig
from ts2net.demo.checkpoint import make_clip_checkpoint
from ts2net.demo.pretraining import train_on_photos
from ts2net.modeling_ts2net import TS2NetTokenSelector


@dataclass(frozen=True)
class Setting:
    """What a model sees of a frame, and how it learns from it.

    Attributes:
        image_size: Pixels of a frame, each way.
        patch_size: Pixels of a patch, each way.
        clips: To train on, by default.
        steps: Of training, by default.
        clip_learning_rate: Of CLIP's own parameters, which learn slower, as what it brings is to be built upon.
        locked: CLIP's image tower doesn't learn at all.
    """

    image_size: int
    patch_size: int
    clips: int
    steps: int
    clip_learning_rate: float
    locked: bool = False


SETTINGS = {
    "coarse": Setting(image_size=32, patch_size=8, clips=4000, steps=400, clip_learning_rate=2e-4),
    "fine": Setting(image_size=28, patch_size=4, clips=4000, steps=800, clip_learning_rate=6e-4),
    "locked": Setting(image_size=28, patch_size=4, clips=16_000, steps=3000, clip_learning_rate=2e-4, locked=True),
}

MEAN_POOLING = {
    "shift_kind": "none",
    "selection_kind": "none",
    "temporal_num_layers": 0,
    "matching_kind": "mean",
}
FULL = "both (TS2-Net)"
TOLD = "told where the dot is"
TOLD_AT_FIRST = "told for a sixth of the steps, then learned"


@dataclass(frozen=True)
class Row:
    """A configuration and the tables in which it stands, with the name it has there."""

    names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return next(iter(self.names.values()))


ROWS = [
    Row({"modules": "mean pooling"}, MEAN_POOLING),
    Row({"modules": "+ temporal encoder"}, {"shift_kind": "none", "selection_kind": "none"}),
    Row({"modules": "+ token shift", "K": "0 ([CLS] only)"}, {"selection_kind": "none"}),
    Row({"modules": "+ token selection", "shift": "none"}, {"shift_kind": "none"}),
    Row(
        {
            "modules": FULL,
            "shift": "token",
            "layers": "last two",
            "ratio": "2 of 7",
            "K": "3",
            "choice": "learned",
        }
    ),
    Row({"shift": "channel, all tokens"}, {"shift_kind": "channel"}),
    Row({"shift": "channel, patches"}, {"shift_kind": "channel_patches"}),
    Row({"shift": "channel, [CLS]"}, {"shift_kind": "channel_cls"}),
    Row({"layers": "first two"}, {"shift_layers": [0, 1]}),
    Row({"layers": "all four"}, {"shift_layers": [0, 1, 2, 3]}),
    Row({"ratio": "2 of 14"}, {"shift_stride": 14, "shift_offset": 7}),
    Row({"ratio": "2 of 4"}, {"shift_stride": 4, "shift_offset": 2}),
    Row({"K": "1"}, {"num_selected_tokens": 1}),
    Row({"K": "6"}, {"num_selected_tokens": 6}),
    Row({"choice": "random"}, {"selection_kind": "random"}),
    Row({"choice": TOLD}, {"selection_kind": "random"}),
    Row({"choice": TOLD_AT_FIRST}),
]


Look = Callable[[torch.Tensor], torch.Tensor]  # from what is kept of clips to what the model takes


class SeenTower(nn.Module):
    """Stands in for an image tower that doesn't learn: it is given what that one has made of frames, once for all."""

    def forward(self, seen: torch.Tensor, **kwargs: Any) -> BaseModelOutput:
        """Give back tokens `(clips, T, L, C, 1)`, as the tower does: `(clips * T, L, C)`."""
        return BaseModelOutput(last_hidden_state=seen.squeeze(-1).flatten(0, 1))


class ToldSelector(TS2NetTokenSelector):
    """Selects what a clip's dot covers, as well as can be: what a learned scorer could gain by it.

    Args:
        config: Of the model.
        shares: Of the dot of each clip in each patch, `(clips, T, N)`.
    """

    def __init__(self, config: TS2NetConfig, shares: torch.Tensor) -> None:
        super().__init__(config)
        self.shares = shares
        self.kind = "random"

    def choose_alone(self) -> None:
        """From now on select by the scorer."""
        self.kind = "perturbed_topk"

    def _random_ranking(self, patches: torch.Tensor, seeds: torch.Tensor | None) -> torch.Tensor:
        return self.shares[seeds]  # which are the clips' places


def make_clip(folder: Path, captions: Iterable[str], setting: Setting, seed: int, num_photos: int, steps: int) -> None:
    """Train the CLIP that all rows of a seed start from."""
    torch.set_num_threads(1)
    new = folder.with_name(f"new-{folder.name}")
    make_clip_checkpoint(new, captions, seed, image_size=setting.image_size, patch_size=setting.patch_size)
    train_on_photos(new, folder, Console(stderr=True, quiet=True), num_photos=num_photos, steps=steps, seed=seed)
