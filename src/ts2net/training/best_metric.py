"""The figure of an evaluation that decides which checkpoint is the best one.

A checkpoint is better only if its figure is better: of equal ones the earlier is kept.
"""

from collections.abc import Sequence
from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from ..evaluation.metrics import rank_statistics

DUAL_SOFTMAX = "_with_dual_softmax"

_DIRECTIONS = ("text_to_video", "video_to_text")
_NAMES = tuple(rank_statistics([1]))
_RANKS = ("MdR", "MnR")
# Only evaluation sets whose videos have groups give these.
_GROUP_METRICS = tuple(f"{direction}_group_R@1" for direction in _DIRECTIONS)
METRICS = tuple(
    f"{direction}_{name}{suffix}" for suffix in ("", DUAL_SOFTMAX) for direction in _DIRECTIONS for name in _NAMES
)


def less_is_better(metric: str) -> bool:
    """Whether the smaller value of a figure is the better one: of ranks, but not of recalls."""
    return metric.removesuffix(DUAL_SOFTMAX).endswith(_RANKS)


def resolve_metric(metric: str | None, eval_dataset: Any) -> str | None:
    """Find the figure that `metric_for_best_model` means.

    Args:
        metric: The argument. `None` names no best checkpoint.
        eval_dataset: The trainer's; of several by name, the first is meant unless `metric` begins with another's name.

    Returns:
        The name as evaluations log it, without `eval_`.

    Raises:
        ValueError: If no evaluation gives such a figure.
    """
    if metric is None or eval_dataset is None:
        return metric
    name = metric.removeprefix("eval_")
    if not isinstance(eval_dataset, dict):
        _check(metric, name, eval_dataset)
        return name
    for prefix, dataset in eval_dataset.items():
        if name.startswith(f"{prefix}_"):
            _check(metric, name.removeprefix(f"{prefix}_"), dataset, [*eval_dataset])
            return name
    prefix, dataset = next(iter(eval_dataset.items()))
    _check(metric, name, dataset, [*eval_dataset])
    return f"{prefix}_{name}"


class EarlyStopping(EarlyStoppingCallback):
    """The library's, which looks only at the evaluation set that decides which checkpoint is the best."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Count evaluations that are not better than the best."""
        if f"eval_{args.metric_for_best_model}" in metrics:
            super().on_evaluate(args, state, control, metrics=metrics, **kwargs)


def _check(metric: str, name: str, dataset: Any, sets: Sequence[str] = ()) -> None:
    if name in METRICS or (name in _GROUP_METRICS and _has_groups(dataset)):
        return
    prefixes = f", each after one of the names {', '.join(sets)} and '_', or alone for the first" if sets else ""
    groups = "; the videos of this evaluation set have no groups" if name in _GROUP_METRICS else ""
    raise ValueError(
        f"metric_for_best_model={metric!r} is not a figure of the evaluation{groups}; expected one of "
        f"{', '.join(METRICS)}{prefixes}"
    )


def _has_groups(dataset: Any) -> bool:
    columns = dataset.column_names or []
    return "group" in columns and any(row["group"] for row in dataset.select_columns(["group"]).take(1))
