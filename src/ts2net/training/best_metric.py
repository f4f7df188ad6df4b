"""The evaluation metric that selects the best checkpoint.

If two checkpoints have the same value, the earlier one is the best.
"""

from collections.abc import Sequence
from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from ..evaluation.metrics import rank_statistics

DUAL_SOFTMAX = "_with_dual_softmax"

_DIRECTIONS = ("text_to_video", "video_to_text")
_NAMES = tuple(rank_statistics([1]))
_RANKS = ("MdR", "MnR")
# Only evaluated if the videos of the evaluation set have groups.
_GROUP_METRICS = tuple(f"{direction}_group_R@1" for direction in _DIRECTIONS)
METRICS = tuple(
    f"{direction}_{name}{suffix}" for suffix in ("", DUAL_SOFTMAX) for direction in _DIRECTIONS for name in _NAMES
)


def less_is_better(metric: str) -> bool:
    """Whether smaller values of a metric are better, as for ranks, but not for recalls."""
    return metric.removesuffix(DUAL_SOFTMAX).endswith(_RANKS)


def resolve_metric(metric: str | None, eval_dataset: Any) -> str | None:
    """Resolve `metric_for_best_model` to the logged name of a metric.

    Args:
        metric: The argument. With `None` no checkpoint is the best.
        eval_dataset: The trainer's evaluation set, or several by name. Of several, the first is used, unless `metric`
            begins with the name of another set.

    Returns:
        The name under which evaluations log the metric, without `eval_`.

    Raises:
        ValueError: If no evaluation computes the metric.
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
    """Early stopping on the evaluation set that selects the best checkpoint; other sets are ignored."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Count successive evaluations that do not improve on the best."""
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
