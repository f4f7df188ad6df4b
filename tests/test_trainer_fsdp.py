"""FSDP: parameters spread over processes train as they do on one, and what is saved is a model like any other."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from processes import run_in_processes
from streamed_data import stream
from tiny_models import tiny_model, tiny_processor
from training_run import tiny_arguments, training_rows
from ts2net import TS2NetModel
from ts2net.training import TS2NetTrainer

FIGURES = ("loss", "grad_norm", "logit_scale", "eval_text_to_video_MnR")


class FirstIsBest(TrainerCallback):
    """Has the first step's evaluation find everything, and the others nothing."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_text_to_video_R@1"] = 100.0 if state.global_step == 1 else 0.0


def trainer(folder: Path, **settings: Any) -> TS2NetTrainer:
    """Two steps, with a checkpoint and an evaluation after each."""
    each_step = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps"}
    args = tiny_arguments(folder, max_steps=2, warmup_steps=0, **each_step, **settings)
    if args.fsdp:
        # Accelerate shards on accelerators alone. What it does there, it can do on a CPU when it takes it for one.
        PartialState().distributed_type = DistributedType.MULTI_GPU
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
        callbacks=[FirstIsBest()],
    )


def figures(history: list[dict[str, float]]) -> list[tuple[int, str, float]]:
    return [(entry["step"], name, float(entry[name])) for entry in history for name in FIGURES if name in entry]


def train_sharded(folder: Path) -> dict[str, Any]:
    """A run, and another that goes on from its first step, in chunks."""
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    # Whoever asks for shards gets whole weights all the same: it is what `accelerate config` proposes.
    whole = trainer(folder / "run", fsdp=True, fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"})
    whole.train()
    sharded = all(isinstance(parameter, DTensor) for parameter in whole.model.parameters())
    whole.save_model()

    resumed = trainer(folder / "resumed", fsdp=True, gradient_cache_chunk_size=3, load_best_model_at_end=True)
    resumed.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-1"))
    resumed.save_model()
    with pytest.raises(ValueError, match="checkpoint-1 was written without FSDP and this run is with it"):
        trainer(folder / "other", fsdp=True).train(resume_from_checkpoint=str(folder / "alone" / "checkpoint-1"))
    with pytest.raises(ValueError, match="FSDP version 1 can't be used: give version 2"):
        trainer(folder / "old", fsdp=True, fsdp_config={"version": 1, "sync_module_states": False})
    return {
        "sharded": sharded,
        "figures": figures(whole.state.log_history),
        "resumed": figures(resumed.state.log_history),
    }


def test_sharded_processes_train_as_one_does(tmp_path: Path):
    """Losses, gradients, evaluation and weights are those of one process; and so are they of a run that goes on."""
    alone = trainer(tmp_path / "alone")
    alone.train()
    expected = figures(alone.state.log_history)
    assert len(expected) == 2 * len(FIGURES)
    results = run_in_processes(train_sharded, 2, tmp_path, tmp_path)
    for result in results:
        assert result["sharded"]
    for run in ("figures", "resumed"):
        for found, (step, name, value) in zip(results[0][run], expected, strict=True):
            assert found == (step, name, pytest.approx(value, rel=1e-4)), run

    best, loaded = (load_file(tmp_path / name / "model.safetensors") for name in ("run/checkpoint-1", "resumed"))
    assert all(torch.equal(loaded[name], weight) for name, weight in best.items()), "the best is loaded at the end"
    pickles = {path.name for path in (tmp_path / "run" / "checkpoint-1").glob("*.bin")}
    assert pickles == {"optimizer.bin"}, "no weights are among them"
    torch.load(tmp_path / "run" / "checkpoint-1" / "optimizer.bin", weights_only=True)

    for folder in ("run", "run/checkpoint-2"):
        saved = TS2NetModel.from_pretrained(tmp_path / folder)
        assert saved.logit_scale.shape == ()
        for name, weight in alone.model.state_dict().items():
            # A bias of keys has no gradient but rounding, which Adam makes a step of.
            tolerance = 1e-3 if name.endswith("k_proj.bias") else 1e-5
            torch.testing.assert_close(saved.state_dict()[name], weight, rtol=1e-4, atol=tolerance, msg=name)
