"""DeepSpeed: whatever ZeRO spreads, runs train as on one process, stop as there, and leave a model like any other."""

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support import deepspeed_runs
from support.deepspeed_runs import DEEPSPEED
from support.spread_training import FIGURES, assert_same_weights, figures
from ts2net import TS2NetModel
from ts2net.training import TS2NetTrainer
from ts2net.training.checkpoints import STATE_FILES, find_checkpoint
from ts2net.training.optimisation import MAX_LOGIT_SCALE


def test_two_processes_train_as_one_does(tmp_path: Path):
    """In each of ZeRO's stages. One test, because processes and their runs take many seconds."""
    alone = deepspeed_runs.trainer(tmp_path / "alone")
    alone.train()
    done = subprocess.run(
        [sys.executable, deepspeed_runs.__file__, tmp_path],
        env=os.environ | {"PYTHONPATH": str(DEEPSPEED), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stderr}\n`make .venv/deepspeed/installed` brings DeepSpeed"
    results = [torch.load(tmp_path / f"result-{rank}.pt", weights_only=True) for rank in range(2)]
    for stage in deepspeed_runs.STAGES:
        ours = [result[stage] for result in results]
        check_figures(ours[0], alone)
        for folder in (f"stage{stage}", f"stage{stage}/checkpoint-2", f"resumed{stage}/checkpoint-2"):
            check_weights(tmp_path / folder, alone)
        check_checkpoint(tmp_path / f"stage{stage}", tmp_path / f"resumed{stage}")
        check_stop(ours)
        check_limit(ours[0])

    with pytest.raises(ValueError, match="checkpoint-1 was written with DeepSpeed and this run is without it"):
        deepspeed_runs.trainer(tmp_path / "other").train(str(tmp_path / "stage2" / "checkpoint-1"))


def check_figures(result: dict[str, Any], alone: TS2NetTrainer) -> None:
    """Losses, gradients, rates and evaluation are those of one process; also of a run that goes on, and in chunks."""
    assert result["engine"].startswith("DeepSpeedZeroOptimizer")
    expected = figures(alone)
    assert len(expected) == 2 * len(FIGURES)
    for run in ("figures", "resumed"):
        for found, (step, name, value) in zip(result[run], expected, strict=True):
            assert found == (step, name, pytest.approx(value, rel=1e-4)), run


def check_weights(folder: Path, alone: TS2NetTrainer) -> None:
    """And so are the weights, which show the optimiser's state of the step that was gone on from."""
    saved = TS2NetModel.from_pretrained(folder)
    assert saved.logit_scale.shape == ()
    assert_same_weights(saved.state_dict(), alone.model.state_dict())


def check_checkpoint(run: Path, resumed: Path) -> None:
    """It is a model, and training state without pickled code; the best one is loaded at the end."""
    checkpoint = run / "checkpoint-1"
    assert find_checkpoint(checkpoint, run) == checkpoint
    names = {path.name for path in checkpoint.iterdir()}
    state = {name for name in names if any(fnmatch(name, pattern) for pattern in STATE_FILES)}
    assert {"zero_optimizer_0.pt", "zero_optimizer_1.pt", "scheduler.pt"} < state
    assert names - state == {path.name for path in run.iterdir() if path.is_file()}
    for name in ("zero_optimizer_0.pt", "zero_optimizer_1.pt", "scheduler.pt"):
        torch.load(checkpoint / name, weights_only=True)

    best, saved = (load_file(folder / "model.safetensors") for folder in (checkpoint, resumed))
    assert all(torch.equal(saved[name], weight) for name, weight in best.items())


def check_stop(results: list[dict[str, Any]]) -> None:
    """Both processes stop before the step, for an infinite gradient that one of them has."""
    errors = {result["error"] for result in results}
    assert len(errors) == 1
    assert errors.pop().startswith("the norm of the gradient is inf at step 3, and the weights were left as they were")
    assert all(result["untouched"] for result in results)


def check_limit(result: dict[str, Any]) -> None:
    """`logit_scale` stays below its limit in the model, and in what the optimiser has, which a step brings back."""
    assert result["scales"] == pytest.approx([MAX_LOGIT_SCALE] * 2, abs=1e-5)
    assert result["scale kept"] == pytest.approx(MAX_LOGIT_SCALE, abs=1e-6)
