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

from support import spread_training
from support.processes import run_in_processes
from support.spread_training import as_launched, figures, two_steps
from ts2net.training import NonFiniteError, TS2NetTrainer, zero

DEEPSPEED = Path(__file__).parents[2] / ".venv" / "deepspeed"  # where it is found, other libraries behave otherwise
STAGES = (1, 2, 3)
ONLY_TRAIN = {"save_strategy": "no", "eval_strategy": "no"}


class PushAndPoison(TrainerCallback):
    """Has `logit_scale` grow with each step, and gives one process an infinite gradient in the third."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0:
            model.logit_scale.register_hook(lambda gradient: -torch.ones_like(gradient))
        if state.global_step == 2:
            self.before = weights_of(model)
            if dist.get_rank() == 1:
                model.visual_projection.weight.register_hook(lambda gradient: gradient * math.inf)


def trainer(folder: Path, callback: TrainerCallback | None = None, **settings: Any) -> TS2NetTrainer:
    return spread_training.trainer(two_steps(folder, **settings), callback)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(zero.whole_weights(model))


def config(stage: int) -> dict[str, Any]:
    # Small weights stay whole on every process, if they may; here none does.
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }


def train_in_stage(folder: Path, stage: int) -> dict[str, Any]:
    """A run, another that goes on from its first step, in chunks, and one that is stopped."""
    whole = trainer(folder / f"stage{stage}", deepspeed=config(stage))
    whole.train()
    whole.save_model()

    settings = {"gradient_cache_chunk_size": 3, "load_best_model_at_end": True}
    resumed = trainer(folder / f"resumed{stage}", deepspeed=config(stage), **settings)
    resumed.train(resume_from_checkpoint=str(folder / f"stage{stage}" / "checkpoint-1"))
    resumed.save_model()

    poison = PushAndPoison()
    settings = {"max_steps": 3, "clip_learning_rate": 0.1, "gradient_cache_chunk_size": 3 if stage == 1 else None}
    poisoned = trainer(folder / "poisoned", callback=poison, deepspeed=config(stage), **settings, **ONLY_TRAIN)
    with pytest.raises(NonFiniteError) as error:
        poisoned.train()
    after = weights_of(poisoned.model)
    return {
        "engine": type(whole.deepspeed.optimizer).__name__,
        "figures": figures(whole),
        "resumed": figures(resumed),
        "scales": [value for _, name, value in figures(poisoned) if name == "logit_scale"],
        "scale kept": poison.before["logit_scale"].item(),
        "error": str(error.value),
        "untouched": all(torch.equal(after[name], weight) for name, weight in poison.before.items()),
    }


def check_refusals(folder: Path) -> None:
    """Of checkpoints and settings that don't go with the run."""
    for name, message in [
        ("alone", "alone/checkpoint-1 was written without DeepSpeed and this run is with it"),
        ("stage1", "stage1/checkpoint-1 was written with stage=1 and this run has stage=2"),
    ]:
        run = trainer(folder / "other", deepspeed=config(2))
        with pytest.raises(ValueError, match=message):
            run.train(resume_from_checkpoint=str(folder / name / "checkpoint-1"))
    with pytest.raises(ValueError, match="gradient_clipping=0.5 vs hf max_grad_norm=1.0"):
        trainer(folder / "other", deepspeed=config(2) | {"gradient_clipping": 0.5})


def all_work(folder: Path) -> dict[int, Any]:
    without_extensions()
    as_launched()
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # or DeepSpeed would ask MPI
    results = {stage: train_in_stage(folder, stage) for stage in STAGES}
    check_refusals(folder)
    return results


def without_extensions() -> None:
    """Let gloo do what DeepSpeed would first compile a faster way for."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


if __name__ == "__main__":
    run_in_processes(all_work, 2, Path(sys.argv[1]), Path(sys.argv[1]))
