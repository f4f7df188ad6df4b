"""Learning-rate range test (Smith 2017, arXiv 1506.01186), which finds learning rates that reduce the loss.

In one short run both rates grow from 0.01 to 100 times their given values, by a constant factor per step. The run ends
when the smoothed loss is more than twice its minimum. A good peak rate is usually a tenth of the rate at the minimum
of the smoothed loss.
"""

import csv
import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..files import write_whole
from .monitoring import NonFiniteError

if TYPE_CHECKING:
    from .trainer import TS2NetTrainer

TABLE = "learning_rate_range.csv"
LOWEST, HIGHEST = 0.01, 100.0  # factors of the rates
_SMOOTHING = 0.9  # weight of the past losses in the moving average
_STOP_ABOVE = 2.0  # times the minimum of the smoothed loss
_COLUMNS = ("factor", "learning_rate", "clip_learning_rate", "loss", "smoothed_loss")
_SHOWN = 15  # rows on the terminal


def growing_rates(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """Create the schedule of a test of `steps` steps, at least 2."""
    return LambdaLR(optimizer, partial(_factor, steps=steps))


class LossRecord(TrainerCallback):
    """Callback that records the loss of each step.

    Args:
        steps: Number of steps of the run.
        rates: `learning_rate` and `clip_learning_rate`, which are multiplied by the factors.
    """

    def __init__(self, steps: int, rates: tuple[float, float]) -> None:
        self.steps = steps
        self.rates = rates
        self.rows: list[dict[str, float]] = []
        self._average = 0.0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Record the loss, and end the run if the smoothed loss is far above its minimum."""
        if "loss" not in logs:
            return
        step = state.global_step - 1
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * logs["loss"]
        smoothed = self._average / (1 - _SMOOTHING ** (step + 1))
        factor = _factor(step, self.steps)
        values = (factor, *(factor * rate for rate in self.rates), logs["loss"], smoothed)
        self.rows.append(dict(zip(_COLUMNS, values, strict=True)))
        if smoothed > _STOP_ABOVE * min(row["smoothed_loss"] for row in self.rows):
            control.should_training_stop = True


def _factor(step: int, steps: int) -> float:
    """Return the factor of the learning rates at a step, counted from 0."""
    return LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))


def advice(rows: list[dict[str, float]]) -> str:
    """Return the recommended rates: a tenth of the rates at the minimum of the smoothed loss."""
    least = min(range(len(rows)), key=lambda index: rows[index]["smoothed_loss"], default=0)
    if least == 0:
        return "the loss never falls: give lower rates or more steps"
    if least == len(rows) - 1:
        return "the loss still falls at the highest rates: give higher ones"
    tenth = {name: rows[least][name] / 10 for name in ("learning_rate", "clip_learning_rate")}
    return (
        f"the smoothed loss is least at {rows[least]['factor']:.3g} times the given rates; a tenth of that is "
        f"--learning_rate {tenth['learning_rate']:.2g} --clip_learning_rate {tenth['clip_learning_rate']:.2g}"
    )


def learning_rate_range_test(trainer: "TS2NetTrainer") -> str:
    """Run the test with a trainer whose arguments have `learning_rate_range_test`.

    Writes [`TABLE`] into the run's folder. A loss that is not finite ends the test, because the rates are too high.

    Returns:
        Some rows of the table, and the recommendation.

    Raises:
        OSError: If the table can't be written.
    """
    args = trainer.args
    callback = LossRecord(args.learning_rate_range_test, (args.learning_rate, args.clip_learning_rate))
    trainer.add_callback(callback)
    ended = ""
    try:
        trainer.train()
    except NonFiniteError:
        ended = "\nthe loss was not finite after that"
    rows, file = callback.rows, Path(args.output_dir) / TABLE
    if trainer.is_world_process_zero():
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.getvalue())
    every = max(1, len(rows) // _SHOWN)
    lines = ["  ".join(f"{name:>18}" for name in _COLUMNS)]
    lines += ["  ".join(f"{row[name]:18.4g}" for name in _COLUMNS) for row in rows[::every]]
    return "\n".join(lines) + f"{ended}\n{advice(rows)}; all steps are in {file}"
