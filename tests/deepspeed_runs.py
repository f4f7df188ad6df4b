"""What two processes do with DeepSpeed, which is installed aside: `python deepspeed_runs.py FOLDER` does it."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import TrainerCallback

from processes import run_in_processes
from streamed_data import stream
from tiny_models import tiny_model, tiny_processor
from training_run import tiny_arguments, training_rows
from ts2net.training import NonFiniteError, TS2NetTrainer, zero

STAGES = (1, 2, 3)
FIGURES = ("loss", "grad_norm", "logit_scale", "learning_rate", "eval_text_to_video_MnR")


class FirstIsBest(TrainerCallback):
    """Has the first step's evaluation find everything, and the others nothing."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_text_to_video_R@1"] = 100.0 if state.global_step == 1 else 0.0


class PushAndPoison(TrainerCallback):
    """Has `logit_scale` grow with each step, and gives one process an infinite gradient in the third."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0:
            model.logit_scale.register_hook(lambda gradient: -torch.ones_like(gradient))
        if state.global_step == 2:
            self.before = weights_of(model)
            if dist.get_rank() == 1:
                model.visual_projection.weight.register_hook(lambda gradient: gradient * math.inf)


def trainer(folder: Path, **settings: Any) -> TS2NetTrainer:
    """Two steps, with a checkpoint and an evaluation after each."""
    defaults = {"max_steps": 2, "warmup_steps": 0, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps"}
    callbacks = settings.pop("callbacks", [FirstIsBest()])
    data = stream(training_rows())
    return TS2NetTrainer(
        tiny_model(),
        tiny_arguments(folder, **(defaults | settings)),
        train_dataset=data,
        eval_dataset=data,
        processing_class=tiny_processor(),
        callbacks=callbacks,
    )


def figures(trainer: TS2NetTrainer) -> list[tuple[int, str, float]]:
    history = trainer.state.log_history
    return [(entry["step"], name, float(entry[name])) for entry in history for name in FIGURES if name in entry]


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(zero.whole_weights(model))


def config(stage: int) -> dict[str, Any]:
    # Small weights stay whole on every process, if they may; here none does.
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }


def train_in_stage(folder: Path, stage: int) -> dict[str, Any]:
    """A run, others that go on from its first step, and one that is stopped."""
    whole = trainer(folder / f"stage{stage}", deepspeed=config(stage))
    whole.train()
    whole.save_model()

    checkpoint = str(folder / f"stage{stage}" / "checkpoint-1")
    resumed = trainer(folder / "resumed", deepspeed=config(stage), save_strategy="no")
    resumed.train(resume_from_checkpoint=checkpoint)
    end = weights_of(whole.model)
    same = all(torch.equal(weight, end[name]) for name, weight in weights_of(resumed.model).items())

    best = folder / f"best{stage}"
    in_chunks = trainer(best, deepspeed=config(stage), gradient_cache_chunk_size=3, load_best_model_at_end=True)
    in_chunks.train(resume_from_checkpoint=checkpoint)
    in_chunks.save_model()

    poison = PushAndPoison()
    rates = {"max_steps": 3, "clip_learning_rate": 1.0, "save_strategy": "no", "eval_strategy": "no"}
    chunk_size = 3 if stage == 1 else None
    poisoned = trainer(
        folder / "poisoned",
        deepspeed=config(stage),
        callbacks=[poison],
        gradient_cache_chunk_size=chunk_size,
        **rates,
    )
    with pytest.raises(NonFiniteError) as error:
        poisoned.train()
    return {
        "engine": type(whole.deepspeed.optimizer).__name__,
        "figures": figures(whole),
        "resumed": figures(resumed),
        "resumed to the same weights": same,
        "in chunks": figures(in_chunks),
        "limited": poison.before["logit_scale"].item(),
        "error": str(error.value),
        "untouched": all(torch.equal(found, poison.before[name]) for name, found in zero.whole_weights(poisoned.model)),
    }


def refusals(folder: Path) -> list[str]:
    """What is said of checkpoints that don't go with the run."""
    said = []
    for stage, checkpoint in [(2, "alone"), (2, "stage1")]:
        with pytest.raises(ValueError) as error:
            run = trainer(folder / "other", deepspeed=config(stage))
            run.train(resume_from_checkpoint=str(folder / checkpoint / "checkpoint-1"))
        said.append(str(error.value))
    return said


def all_work(folder: Path) -> dict[str, Any]:
    without_extensions()
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # or DeepSpeed would ask MPI
    return {"stages": {stage: train_in_stage(folder, stage) for stage in STAGES}, "refusals": refusals(folder)}


def without_extensions() -> None:
    """Let gloo do what DeepSpeed would first compile a faster way for."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


if __name__ == "__main__":
    run_in_processes(all_work, 2, Path(sys.argv[1]), Path(sys.argv[1]))
