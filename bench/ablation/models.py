"""The rows of the tables: the configuration and the training of each model."""

from dataclasses import dataclass, field
from typing import Any

import torch

from ts2net.configuration_ts2net import TS2NetConfig
from ts2net.modeling_ts2net import TS2NetTokenSelector

COMMON: dict[str, Any] = {
    "num_frames": 4,
    "temporal_num_layers": 2,
    "temporal_position_scale": 4.0,
    "selection_num_samples": 100,
}
MEAN_POOLING = {"shift_kind": "none", "selection_kind": "none", "temporal_num_layers": 0, "matching_kind": "mean"}
RANDOM = {"selection_kind": "random"}
FULL = "full model"
ORACLE = "told where the small thing is"


@dataclass(frozen=True)
class Row:
    """A model, and its names in the tables that contain it.

    Attributes:
        names: Name of the row in each table.
        settings: Fields of the configuration that differ from `COMMON`.
        selection_loss: Whether the model is trained with the loss on the selected tokens.
        learned_layers: Number of trained layers of the image tower, counted from the last one.
    """

    names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    selection_loss: bool = True
    learned_layers: int = 0

    @property
    def name(self) -> str:
        return next(iter(self.names.values()))


ROWS = [
    Row({"modules": "mean pooling"}, MEAN_POOLING, selection_loss=False),
    Row({"modules": "[CLS] only, no shift"}, {"shift_kind": "none", "selection_kind": "none"}, selection_loss=False),
    Row({"modules": "[CLS] only", "K": "0 ([CLS] only)"}, {"selection_kind": "none"}, selection_loss=False),
    Row({"modules": "no shift", "shift": "none", "layers": "none"}, {"shift_kind": "none"}),
    Row(
        {
            "modules": FULL,
            "shift": "token",
            "layers": "last two",
            "K": "3",
            "choice": "learned, with the loss",
            "matching": "weighted",
            "tower": "locked",
        }
    ),
    Row({"choice": "learned, without the loss"}, selection_loss=False),
    Row({"modules": "random choice", "choice": "random"}, RANDOM, selection_loss=False),
    Row({"choice": "random, with the loss"}, RANDOM),
    Row({"choice": ORACLE}, RANDOM, selection_loss=False),
    Row({"shift": "channel, all tokens"}, {"shift_kind": "channel"}),
    Row({"shift": "channel, patches"}, {"shift_kind": "channel_patches"}),
    Row({"shift": "channel, [CLS]"}, {"shift_kind": "channel_cls"}),
    Row({"layers": "all four"}, {"shift_layers": [0, 1, 2, 3]}),
    Row({"K": "1"}, {"num_selected_tokens": 1}),
    Row({"K": "2"}, {"num_selected_tokens": 2}),
    Row({"K": "4"}, {"num_selected_tokens": 4}),
    Row({"K": "12"}, {"num_selected_tokens": 12}),
    Row({"layers": "the third"}, {"shift_layers": [2]}),
    Row({"layers": "the last"}, {"shift_layers": [3]}),
    Row({"tower": "last two layers learn"}, learned_layers=2),
    Row({"matching": "mean"}, {"matching_kind": "mean"}),
    Row({"matching": "word-token interaction"}, {"matching_kind": "wti"}),
]


class OracleSelector(TS2NetTokenSelector):
    """Selects the patches that a clip's small thing covers most. It shows what a learned scorer could gain.

    Args:
        config: The model's configuration.
        shares: Share of each patch that the small thing of each clip covers, `(clips, T, N)`.
    """

    def __init__(self, config: TS2NetConfig, shares: torch.Tensor) -> None:
        super().__init__(config)
        self.shares = shares

    def _random_ranking(self, patches: torch.Tensor, seeds: torch.Tensor | None) -> torch.Tensor:
        return self.shares[seeds]  # seeds are the indices of the clips
