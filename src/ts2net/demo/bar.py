"""A progress bar for `transformers.Trainer` that is one line, where its own also prints every log entry."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class TrainingBar(TrainerCallback):
    """The steps of a training, what it has come to, and the time left. Use it as a context manager too.

    Args:
        console: Where to show it, if that is a terminal.
        what: Is trained.
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
        """Move on."""
        self._bar.update(self._task, completed=state.global_step, total=state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the loss."""
        if "loss" in kwargs["logs"]:
            self._bar.update(self._task, figures=f"loss {kwargs['logs']['loss']:.2f}")
