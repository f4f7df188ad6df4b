"""The metric that chooses the best checkpoint, and its direction."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from support.streamed_data import row, stream
from support.training_run import tiny_arguments
from ts2net.training.best_metric import METRICS, EarlyStopping, less_is_better, resolve_metric

ROWS = stream([[row(0)]])
GROUPED = stream([[row(0) | {"group": "a"}]])


@pytest.mark.parametrize("metric", METRICS)
def test_less_is_better_of_ranks_alone(metric: str, tmp_path: Path):
    """`greater_is_better` is False for ranks; Trainer's default would be True for every metric except a loss."""
    is_rank = "MdR" in metric or "MnR" in metric
    assert less_is_better(metric) == is_rank
    assert tiny_arguments(tmp_path, metric_for_best_model=metric).greater_is_better == (not is_rank)


def test_a_wrong_direction_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="greater_is_better=True contradicts metric_for_best_model=.*_MnR"):
        tiny_arguments(tmp_path, metric_for_best_model="text_to_video_MnR", greater_is_better=True)


@pytest.mark.parametrize("metric", ["R@1", "loss", "text-to-video R@1", "text_to_video_R@2", "few_text_to_video_R@1"])
def test_a_figure_that_no_evaluation_gives_is_refused_with_those_it_gives(metric: str):
    with pytest.raises(ValueError, match=f"={metric!r} is not a figure of .* text_to_video_R@1, .*video_to_text_MnR"):
        resolve_metric(metric, ROWS)


def test_groups_have_a_figure_where_there_are_groups():
    assert resolve_metric("text_to_video_group_R@1", GROUPED) == "text_to_video_group_R@1"
    with pytest.raises(ValueError, match="the videos of this evaluation set have no groups"):
        resolve_metric("text_to_video_group_R@1", ROWS)


@pytest.mark.parametrize(
    ("metric", "meant"),
    [
        ("text_to_video_R@1", "few_text_to_video_R@1"),
        ("eval_text_to_video_R@1", "few_text_to_video_R@1"),
        ("more_text_to_video_MnR", "more_text_to_video_MnR"),
        ("few_video_to_text_MdR_with_dual_softmax", "few_video_to_text_MdR_with_dual_softmax"),
    ],
)
def test_one_of_several_sets_is_meant(metric: str, meant: str):
    assert resolve_metric(metric, {"few": ROWS, "more": ROWS}) == meant


def test_a_set_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="each after one of the names few, more and '_'"):
        resolve_metric("many_text_to_video_R@1", {"few": ROWS, "more": ROWS})


def evaluations_until_stop(tmp_path: Path, figures: list[float], **settings: Any) -> int | None:
    """Number of evaluations until early stopping with a patience of 2 stops the run; `None` if it never does."""
    metric = "text_to_video_MnR"
    args = tiny_arguments(tmp_path, metric_for_best_model=metric, eval_strategy="epoch", early_stopping_patience=2)
    stopping, state, control = EarlyStopping(2), TrainerState(), TrainerControl()
    for count, figure in enumerate(figures, start=1):
        stopping.on_evaluate(args, state, control, metrics={"eval_other_text_to_video_MnR": 0.0})
        stopping.on_evaluate(args, state, control, metrics={f"eval_{metric}": figure})
        if state.best_metric is None or figure < state.best_metric:
            state.best_metric = figure
        if control.should_training_stop:
            return count
    return None


def test_early_stopping_counts_evaluations_that_are_not_better(tmp_path: Path):
    """Early stopping uses the metric's direction, counts an equal value as no improvement and ignores other sets."""
    assert evaluations_until_stop(tmp_path, [9, 8, 8, 9, 1]) == 4
    assert evaluations_until_stop(tmp_path, [9, 8, 9, 7, 8, 6]) is None


def test_early_stopping_needs_evaluations(tmp_path: Path):
    with pytest.raises(ValueError, match="early_stopping_patience needs evaluations: give eval_strategy"):
        tiny_arguments(tmp_path, early_stopping_patience=2)
