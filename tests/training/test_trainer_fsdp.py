"""FSDP: sharded training gives the results of one process, and saves an ordinary model folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from support import spread_training
from support.processes import run_in_processes
from support.spread_training import FIGURES, as_launched, assert_same_weights, figures, two_steps
from ts2net import TS2NetModel
from ts2net.training import TS2NetTrainer

pytestmark = pytest.mark.spread


def trainer(folder: Path, **settings: Any) -> TS2NetTrainer:
    args = two_steps(folder, **settings)
    if args.fsdp:
        # Accelerate shards only on accelerators. The same code runs on a CPU that is declared to be one.
        PartialState().distributed_type = DistributedType.MULTI_GPU
    return spread_training.trainer(args)


def train_sharded(folder: Path) -> dict[str, Any]:
    """Train a run, and resume another from its first step with a gradient cache."""
    as_launched()
    # `accelerate config` proposes sharded state dicts; weights are saved whole even so.
    whole = trainer(folder / "run", fsdp=True, fsdp_config={"state_dict_type": "SHARDED_STATE_DICT"})
    whole.train()
    sharded = all(isinstance(parameter, DTensor) for parameter in whole.model.parameters())
    whole.save_model()

    resumed = trainer(folder / "resumed", fsdp=True, gradient_cache_chunk_size=3, load_best_model_at_end=True)
    resumed.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-1"))
    resumed.save_model()
    with pytest.raises(ValueError, match="checkpoint-1 was written without FSDP and this run is with it"):
        trainer(folder / "other", fsdp=True).train(resume_from_checkpoint=str(folder / "alone" / "checkpoint-1"))
    with pytest.raises(
        ValueError, match=r"checkpoint-1 was written with learning_rate=0\.001 and this run has .*=0\.0005"
    ):
        trainer(folder / "changed", fsdp=True, learning_rate=5e-4).train(str(folder / "run" / "checkpoint-1"))
    with pytest.raises(ValueError, match="FSDP version 1 can't be used: give version 2"):
        trainer(folder / "old", fsdp=True, fsdp_config={"version": 1, "sync_module_states": False})
    return {
        "sharded": sharded,
        "figures": figures(whole),
        "resumed": figures(resumed),
    }


def test_sharded_processes_train_as_one_does(tmp_path: Path):
    """Losses, gradients, evaluations and weights equal those of one process, in a new and in a resumed run."""
    alone = trainer(tmp_path / "alone")
    alone.train()
    expected = figures(alone)
    assert len(expected) == 2 * len(FIGURES)
    results = run_in_processes(train_sharded, 2, tmp_path, tmp_path)
    for result in results:
        assert result["sharded"]
    for run in ("figures", "resumed"):
        for actual, (step, name, value) in zip(results[0][run], expected, strict=True):
            assert actual == (step, name, pytest.approx(value, rel=1e-4)), run

    best, loaded = (load_file(tmp_path / name / "model.safetensors") for name in ("run/checkpoint-1", "resumed"))
    assert all(torch.equal(loaded[name], weight) for name, weight in best.items()), "the best is loaded at the end"
    pickles = {path.name for path in (tmp_path / "run" / "checkpoint-1").glob("*.bin")}
    assert pickles == {"optimizer.bin"}, "no weights are among them"
    torch.load(tmp_path / "run" / "checkpoint-1" / "optimizer.bin", weights_only=True)

    for folder in ("run", "run/checkpoint-2"):
        saved = TS2NetModel.from_pretrained(tmp_path / folder)
        assert saved.logit_scale.shape == ()
        assert_same_weights(saved.state_dict(), alone.model.state_dict())


def train_sharded_as_released(folder: Path) -> None:
    as_launched()
    sharded = trainer(folder / "sharded", fsdp=True, released_optimizer=True, max_grad_norm=0)
    sharded.train()
    sharded.save_model()


def test_sharded_processes_take_the_released_steps(tmp_path: Path):
    """The global gradient clipping is off, so that the optimizer's clipping of each parameter takes effect."""
    alone = trainer(tmp_path / "alone", released_optimizer=True, max_grad_norm=0)
    alone.train()
    run_in_processes(train_sharded_as_released, 2, tmp_path, tmp_path)
    assert_same_weights(load_file(tmp_path / "sharded" / "model.safetensors"), alone.model.state_dict())
