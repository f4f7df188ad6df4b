"""DeepSpeed: whatever ZeRO spreads, runs train as on one process, stop as there, and leave a model like any other."""

import os
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import deepspeed_runs
from ts2net import TS2NetModel
from ts2net.training import TS2NetTrainer
from ts2net.training.checkpoints import STATE_FILES, find_checkpoint
from ts2net.training.optimisation import MAX_LOGIT_SCALE

DEEPSPEED = Path(__file__).parents[1] / ".venv" / "deepspeed"  # where it is found, other libraries behave otherwise


@dataclass
class Runs:
    """Of one process, and of two with DeepSpeed, all in `folder`."""

    folder: Path
    alone: TS2NetTrainer
    results: list[dict[int, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    alone = deepspeed_runs.trainer(folder / "alone")
    alone.train()
    done = subprocess.run(
        [sys.executable, deepspeed_runs.__file__, folder],
        env=os.environ | {"PYTHONPATH": str(DEEPSPEED), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stderr}\n`make .venv/deepspeed/installed` brings DeepSpeed"
    results = [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in range(2)]
    return Runs(folder, alone, results)


@pytest.fixture(params=deepspeed_runs.STAGES)
def stage(request: pytest.FixtureRequest) -> int:
    return request.param


def test_processes_train_as_one_does(runs: Runs, stage: int):
    """Losses, gradients, rates, evaluation and weights; also of a run that goes on, and in chunks at that."""
    result = runs.results[0][stage]
    assert result["engine"].startswith("DeepSpeedZeroOptimizer")
    expected = deepspeed_runs.figures(runs.alone)
    assert len(expected) == 2 * len(deepspeed_runs.FIGURES)
    for run in ("figures", "resumed"):
        for found, (step, name, value) in zip(result[run], expected, strict=True):
            assert found == (step, name, pytest.approx(value, rel=1e-4)), run

    for folder in (f"stage{stage}", f"stage{stage}/checkpoint-2", f"resumed{stage}/checkpoint-2"):
        saved = TS2NetModel.from_pretrained(runs.folder / folder)
        assert saved.logit_scale.shape == ()
        for name, weight in runs.alone.model.state_dict().items():
            # A bias of keys has no gradient but rounding, which Adam makes a step of.
            tolerance = 1e-3 if name.endswith("k_proj.bias") else 1e-5
            torch.testing.assert_close(saved.state_dict()[name], weight, rtol=1e-4, atol=tolerance, msg=name)


def test_the_best_is_loaded_at_the_end(runs: Runs, stage: int):
    """And saved from where the optimiser has it."""
    folders = (runs.folder / f"stage{stage}" / "checkpoint-1", runs.folder / f"resumed{stage}")
    best, saved = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(saved[name], weight) for name, weight in best.items())


def test_nothing_steps_with_an_infinite_gradient(runs: Runs, stage: int):
    """Of one process, for which both stop with what they had."""
    errors = {result[stage]["error"] for result in runs.results}
    assert len(errors) == 1
    assert errors.pop().startswith("the norm of the gradient is inf at step 3, and the weights were left as they were")
    assert all(result[stage]["untouched"] for result in runs.results)


def test_the_logit_scale_stays_below_its_limit(runs: Runs, stage: int):
    """In the model, and in the optimiser's own weights, which a step brings back."""
    result = runs.results[0][stage]
    assert result["scales"] == pytest.approx([MAX_LOGIT_SCALE] * 2, abs=1e-5)
    assert result["scale kept"] == pytest.approx(MAX_LOGIT_SCALE, abs=1e-6)


def test_a_checkpoint_is_a_model_and_files_without_pickled_code(runs: Runs, stage: int):
    checkpoint = runs.folder / f"stage{stage}" / "checkpoint-1"
    assert find_checkpoint(checkpoint, runs.folder) == checkpoint
    state = {path.name for path in checkpoint.iterdir() if any(fnmatch(path.name, name) for name in STATE_FILES)}
    assert {"zero_optimizer_0.pt", "zero_optimizer_1.pt", "scheduler.pt"} < state
    model = {path.name for path in (runs.folder / f"stage{stage}").iterdir() if path.is_file()}
    assert {path.name for path in checkpoint.iterdir()} - state == model
    for name in ("zero_optimizer_0.pt", "zero_optimizer_1.pt", "scheduler.pt"):
        torch.load(checkpoint / name, weights_only=True)


def test_a_run_without_deepspeed_does_not_go_on_from_it(runs: Runs, tmp_path: Path):
    with pytest.raises(ValueError, match="checkpoint-1 was written with DeepSpeed and this run is without it"):
        deepspeed_runs.trainer(tmp_path).train(resume_from_checkpoint=str(runs.folder / "stage2" / "checkpoint-1"))
