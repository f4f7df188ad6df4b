"""Parallel jobs, and a job that crashes its process."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.worker_jobs import square
from ts2net.parallel.pool import Died, run_in_order


def test_results_come_in_order_whoever_works() -> None:
    for workers in (0, 2):
        assert list(run_in_order([partial(square, number) for number in range(5)], workers)) == [0, 1, 4, 9, 16]


def test_a_job_that_ends_its_process_ends_no_other() -> None:
    results = list(run_in_order([partial(square, number) for number in range(8)], workers=2))
    assert isinstance(results.pop(5), Died)
    assert results == [number * number for number in range(8) if number != 5]


def test_an_error_of_a_job_is_raised_here() -> None:
    with pytest.raises(TypeError, match="'str'"):
        list(run_in_order([partial(square, "a")], workers=1))


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from ts2net.parallel.pool import run_in_order\nlist(run_in_order([print], workers=1))\n")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert "RuntimeError: no worker process could be started; a script has to keep" in result.stderr
