"""The benches whose tables stand in the README still run; what they measure is not looked at here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[1] / "bench"


def ablation(out: Path, *options: str) -> list[dict]:
    """Run a few steps of the ablation, and give back all runs of the setting."""
    less = ["--seeds", "1", "--clips", "64", "--photos", "128", "--photo-steps", "1", "--jobs", "1"]
    subprocess.run([sys.executable, BENCH / "ablation", "--out", out, *less, *options], check=True)
    return [json.loads(line) for line in next(out.glob("*/runs.jsonl")).read_text().splitlines()]


def test_ablation_writes_its_tables_and_takes_up_where_it_was(tmp_path: Path):
    """Two rows of the ablation, trained for a step; done again, nothing is left to do."""
    options = ["--steps", "1", "--rows", "random", "told where the dot is"]
    runs = random, told = ablation(tmp_path, *options)
    assert [each["row"] for each in runs] == ["random", "told where the dot is"]
    assert 5 < random["dots_selected"] < 50  # three of sixteen patches, the same ones in every clip
    assert told["dots_selected"] == 100
    assert "| random |" in (tmp_path / "coarse" / "tables.md").read_text()
    assert (tmp_path / "coarse" / "choice.png").read_bytes().startswith(b"\x89PNG")

    assert ablation(tmp_path, *options) == runs


def test_ablation_with_a_locked_image_tower_and_a_selector_that_is_told_at_first(tmp_path: Path):
    """The one keeps its place in the model, and the other chooses by itself in the end."""
    row = "told for a sixth of the steps, then learned"
    [run] = ablation(tmp_path, "--setting", "locked", "--steps", "6", "--rows", row)
    assert run["row"] == row
    assert run["dots_selected"] < 100


@pytest.mark.parametrize(
    ("bench", "said"),
    [
        ("gradient_cache.py --clips 2 --frames 1 --layers 1 --chunks 1 --rounds 1", "chunks of 1"),
        ("evaluation.py --texts 1000 --videos 1000 --frames 2 --width 64 --repeats 1", "blocks / at once: "),
        ("evaluation.py --texts 8 --videos 8 --only querybank", '"bytes"'),
        (
            "training_speed.py --layers 1 --frames 1 --batch 2 --rounds 1 --steps 1 --warm-up 1 --clips 2 --workers 1",
            "of the bare loop",
        ),
    ],
    ids=["gradient cache", "evaluation", "ranking", "training speed"],
)
def test_a_measurement_of_the_smallest_size(bench: str, said: str):
    """It measures in processes of its own, and says what it found."""
    name, *arguments = bench.split()
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, BENCH / name, *arguments], env=one_core, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
