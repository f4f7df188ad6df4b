"""A run that is spread over processes in whatever way, and one process to compare it with."""

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
    """Has the first step's evaluation find everything, and the others nothing."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_text_to_video_R@1"] = 100.0 if state.global_step == 1 else 0.0


def two_steps(folder: Path, **settings: Any) -> TS2NetTrainingArguments:
    """With a checkpoint and an evaluation after each."""
    defaults = {"max_steps": 2, "warmup_steps": 0, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps"}
    return tiny_arguments(folder, **(defaults | settings))


def trainer(args: TS2NetTrainingArguments, callback: TrainerCallback | None = None) -> TS2NetTrainer:
    """Of a tiny model, whose first step is the best unless another callback is given."""
    model = tiny_model()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))  # so that the limit of each step has something to do
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
    """Give this process the environment in which `accelerate launch` would have started it."""
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}


def figures(trainer: TS2NetTrainer) -> list[tuple[int, str, float]]:
    """Step, name and value of all that a run has logged of [`FIGURES`]."""
    history = trainer.state.log_history
    return [(entry["step"], name, float(entry[name])) for entry in history for name in FIGURES if name in entry]


def assert_same_weights(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """After a few steps, in another order of additions."""
    assert actual.keys() == expected.keys()
    for name, weight in expected.items():
        # A bias of keys has no gradient but rounding, which Adam makes a step of.
        tolerance = 1e-3 if name.endswith("k_proj.bias") else 1e-5
        torch.testing.assert_close(actual[name], weight, rtol=1e-4, atol=tolerance, msg=name)
