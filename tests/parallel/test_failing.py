"""Errors in several processes: the output, and the exit codes that a launcher gets."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from support.processes import run_in_processes
from ts2net.parallel.failing import fail, fail_in_silence, has_failed

pytestmark = pytest.mark.spread


def fail_together() -> tuple[str, bool]:
    """Output of a process for an error in both and one in only the second, and the value of `has_failed()`."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        fail("found by both")
        if dist.get_rank() == 1:
            fail("found by the second")
    dist.barrier()
    return printed.getvalue(), has_failed()


def test_an_error_is_said_once_whoever_finds_it(tmp_path: Path):
    printed, failed = zip(*run_in_processes(fail_together, 2, tmp_path), strict=True)
    assert sorted("".join(printed).splitlines()) == ["error: found by both", "error: found by the second"]
    assert failed == (True, True)


def fail_under_a_launcher(folder: Path, rank: int, message: str, machines: int = 1) -> tuple[int, str, Path]:
    """Exit code, output and error file of a process that fails before it joins the process group."""
    error_file = folder / "attempt_0" / str(rank) / "error.json"
    error_file.parent.mkdir(parents=True)
    launched = {"LOCAL_RANK": f"{rank}", "TORCHELASTIC_ERROR_FILE": f"{error_file}", "GROUP_WORLD_SIZE": f"{machines}"}
    code = "import sys; from ts2net.parallel.failing import fail; sys.exit(fail(sys.argv[1], 2))"
    command = [sys.executable, "-c", code, message]
    done = subprocess.run(command, env=os.environ | launched, capture_output=True, text=True)
    return done.returncode, done.stderr, error_file


def test_only_the_process_that_reports_ends_with_an_error(tmp_path: Path):
    """Before the process group exists, an error is reported by one process, and a different error also."""
    *first, error_file = fail_under_a_launcher(tmp_path, 1, "no such option")
    assert first == [2, "error: no such option\n"]
    assert json.loads(error_file.read_text())["message"]["message"] == "error: no such option"
    *second, error_file = fail_under_a_launcher(tmp_path, 0, "no such option")
    assert second == [0, ""]
    assert not error_file.exists()
    assert fail_under_a_launcher(tmp_path, 2, "no such file")[:2] == (2, "error: no such file\n")


def test_a_launcher_on_another_machine_sees_an_error_too(tmp_path: Path):
    """With several machines, silent processes fail too, because their launcher would take exit code 0 for success."""
    assert fail_under_a_launcher(tmp_path, 0, "no such option", machines=2)[:2] == (2, "error: no such option\n")
    assert fail_under_a_launcher(tmp_path, 1, "no such option", machines=2)[:2] == (2, "")


def test_without_a_launcher_that_lists_failures_the_exit_code_is_that_of_the_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    assert fail_in_silence(2) == 2
    assert signal.getsignal(signal.SIGTERM) == before
