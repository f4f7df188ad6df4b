"""One-line progress bar for `transformers.Trainer`, whose own bar also prints every log entry."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TrainingBar(TrainerCallback):
    """Progress bar with the steps, the loss and the remaining time. It is also a context manager.

    Args:
        console: Console of the bar. If it is not a terminal, no bar is shown.
        what: Name of the model in training.
    """

    def __init__(self, console: Console, what: str) -> None:
        self._bar = Progress(
            TextColumn(f"training {what}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, figures="")

    def __enter__(self) -> "TrainingBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the number of steps."""
        self._bar.update(self._task, completed=state.global_step, total=state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the loss."""
        if "loss" in kwargs["logs"]:
            self._bar.update(self._task, figures=f"loss {kwargs['logs']['loss']:.2f}")
