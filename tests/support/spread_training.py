"""A training run that is distributed over processes, and a run in one process for comparison."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.training import TS2NetTrainer, TS2NetTrainingArguments

FIGURES = ("loss", "grad_norm", "logit_scale", "learning_rate", "eval_text_to_video_MnR")


class FirstIsBest(TrainerCallback):
    """Sets the recall of the first step's evaluation to 100, and of all others to 0."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_text_to_video_R@1"] = 100.0 if state.global_step == 1 else 0.0


def two_steps(folder: Path, **settings: Any) -> TS2NetTrainingArguments:
    """Create arguments for two steps, with a checkpoint and an evaluation after each."""
    defaults = {"max_steps": 2, "warmup_steps": 0, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps"}
    return tiny_arguments(folder, **(defaults | settings))


def trainer(args: TS2NetTrainingArguments, callback: TrainerCallback | None = None) -> TS2NetTrainer:
    """Create a trainer of a tiny model. Its first step is the best unless another callback is given."""
    model = tiny_model()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))  # the limit, so that clamping after each step has an effect
    data = stream(training_rows())
    return TS2NetTrainer(
        model,
        args,
        train_dataset=data,
        eval_dataset=data,
        processing_class=tiny_processor(),
        callbacks=[callback or FirstIsBest()],
    )


def as_launched() -> None:
    """Set the environment variables that `accelerate launch` would set for this process."""
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}


def figures(trainer: TS2NetTrainer) -> list[tuple[int, str, float]]:
    """Return step, name and value of all logged [`FIGURES`] of a run."""
    history = trainer.state.log_history
    return [(entry["step"], name, float(entry[name])) for entry in history for name in FIGURES if name in entry]


def assert_same_weights(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Check that weights agree after a few steps, except for the rounding of another order of additions."""
    assert actual.keys() == expected.keys()
    for name, weight in expected.items():
        # The gradient of a bias of keys is only rounding, but Adam scales it to a full step.
        tolerance = 1e-3 if name.endswith("k_proj.bias") else 1e-5
        torch.testing.assert_close(actual[name], weight, rtol=1e-4, atol=tolerance, msg=name)
