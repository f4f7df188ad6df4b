"""The benchmark scripts whose tables are in the README still run. The measured values are not checked."""

import json
import os
from pathlib import Path

import pytest

from support.forked_python import ForkedPython

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[1] / "bench"


def run(name: str, *arguments: str) -> str:
    """Return what a script prints."""
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    done = ForkedPython([BENCH / name, *arguments], environment=one_core).result()
    assert done.code == 0, done.err
    return done.out


def test_ablation_writes_its_tables_and_takes_up_where_it_was(tmp_path: Path):
    """The ablation trains two rows for a step and writes its tables. A second run repeats nothing."""
    rows = ["full model", "told where the small thing is"]
    options = ["--steps", "1", "--clips", "64", "--most", "8", "--seeds", "1", "--rows", *rows]
    options += ["--out", str(tmp_path), "--picture", str(tmp_path / "selected.png")]
    for _ in range(2):
        run("ablation/__main__.py", *options)
        runs = full, oracle = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
        assert [each["row"] for each in runs] == rows
    assert oracle["small_thing_selected"] == 100
    assert full["chance"] == oracle["chance"] > 0
    assert "| full model |" in (tmp_path / "runs.md").read_text()
    assert (tmp_path / "selected.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bench", "expected"),
    [
        ("gradient_cache.py --clips 2 --frames 1 --layers 1 --chunks 1 --rounds 1", "chunks of 1"),
        ("evaluation.py --texts 8 --videos 8 --only querybank", '"bytes"'),
    ],
    ids=["gradient cache", "ranking"],
)
def test_a_measurement_of_the_smallest_size(bench: str, expected: str):
    """A script measures in separate processes and prints the result."""
    assert expected in run(*bench.split())
