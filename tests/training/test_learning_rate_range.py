"""The learning-rate range test: its rates, its end, and its advice."""

import csv
from pathlib import Path
from typing import Any

import pytest

from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.training import NonFiniteError, TS2NetTrainer, learning_rate_range
from ts2net.training.learning_rate_range import TABLE, LossRecord, advice, learning_rate_range_test

pytestmark = pytest.mark.slow


def run(folder: Path, **settings: Any) -> tuple[str, list[dict[str, float]], TS2NetTrainer]:
    """The message, the table and the trainer of a learning-rate range test."""
    defaults = {"learning_rate_range_test": 12, "save_strategy": "steps", "save_steps": 1, "warmup_steps": 0.5}
    trainer = TS2NetTrainer(
        tiny_model(),
        tiny_arguments(folder, **(defaults | settings)),
        train_dataset=stream(training_rows()),
        processing_class=tiny_processor(),
    )
    message = learning_rate_range_test(trainer)
    with (folder / TABLE).open(newline="") as file:
        return message, [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)], trainer


def test_rates_grow_evenly_from_a_hundredth_to_a_hundredfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The optimizer uses exactly the rates of the table, whatever the warm-up; only the table is left on disk."""
    rates_per_step = []
    step = TS2NetTrainer.training_step

    def watched(self: TS2NetTrainer, *args: Any, **kwargs: Any) -> Any:
        rates_per_step.append([group["lr"] for group in self.optimizer.param_groups if group["params"]])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(TS2NetTrainer, "training_step", watched)
    message, rows, trainer = run(tmp_path, learning_rate=1e-5, clip_learning_rate=1e-7)
    factors = [0.01 * 10 ** (4 * number / 11) for number in range(12)]
    assert [row["factor"] for row in rows] == pytest.approx(factors)
    for row, rates in zip(rows, rates_per_step, strict=True):
        assert sorted(set(rates)) == pytest.approx([row["clip_learning_rate"], row["learning_rate"]])
        assert row["learning_rate"] == pytest.approx(1e-5 * row["factor"])
        assert row["clip_learning_rate"] == pytest.approx(1e-7 * row["factor"])
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx([row["learning_rate"] for row in rows])
    assert [path.name for path in tmp_path.iterdir()] == [TABLE]
    assert message.endswith(f"all steps are in {tmp_path / TABLE}")


def test_it_ends_where_the_loss_rises_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The test stops at a rise of the loss: here at any rise above the minimum, by default at twice the minimum."""
    monkeypatch.setattr(learning_rate_range, "_STOP_ABOVE", 1.0)
    _, rows, trainer = run(tmp_path, learning_rate_range_test=40)
    losses = [row["smoothed_loss"] for row in rows]
    assert 1 < len(rows) == trainer.state.global_step < 40
    assert losses[-1] > min(losses)
    assert losses[:-1] == sorted(losses[:-1], reverse=True)


def test_a_loss_that_is_not_finite_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    step = TS2NetTrainer.training_step

    def failing(self: TS2NetTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise NonFiniteError("loss", float("nan"), 4, ["clip"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(TS2NetTrainer, "training_step", failing)
    message, rows, _ = run(tmp_path)
    assert len(rows) == 3
    assert "the loss was not finite after that" in message


def test_rates_that_no_model_survives_are_recorded(tmp_path: Path):
    """The logit scale becomes 0, so its logarithm is logged as `-inf`."""
    _, rows, trainer = run(tmp_path, learning_rate=1e3, clip_learning_rate=1e3)
    assert rows
    assert any(entry.get("logit_scale") == float("-inf") for entry in trainer.state.log_history)


def test_a_tenth_of_the_rate_of_the_least_loss_is_advised():
    def rows_of(*losses: float) -> list[dict[str, float]]:
        factors = [10.0**exponent for exponent in range(-2, 3)]
        return [
            {"factor": factor, "learning_rate": factor, "clip_learning_rate": factor / 1000, "smoothed_loss": loss}
            for factor, loss in zip(factors, losses, strict=False)
        ]

    assert "least at 10 times" in advice(rows_of(5, 4.9, 4, 2, 6))
    assert "--learning_rate 1 --clip_learning_rate 0.001" in advice(rows_of(5, 4.9, 4, 2, 6))
    assert "never falls" in advice(rows_of(5, 6, 7))
    assert "never falls" in advice([])
    assert "give higher ones" in advice(rows_of(5, 4, 3))


def test_the_smoothed_loss_is_an_average_without_bias():
    callback, control = LossRecord(10, (1.0, 1.0)), type("Control", (), {"should_training_stop": False})()
    for number, loss in enumerate([2.0, 4.0, 3.0], start=1):
        callback.on_log(None, type("State", (), {"global_step": number})(), control, logs={"loss": loss})
    assert callback.rows[0]["smoothed_loss"] == pytest.approx(2.0)
    assert callback.rows[1]["smoothed_loss"] == pytest.approx((0.9 * 2 + 4) / 1.9)
    assert not control.should_training_stop
