"""Jobs in separate processes: a job that crashes or hangs doesn't affect other jobs or this process."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ts2net.parallel.isolated import CrashError, Failure, Isolation, TimeLimitError

ISOLATION = Isolation(preload=("numpy",))
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")


def add(left: int, right: int) -> int:
    return left + right


def read_address_zero() -> None:
    ctypes.string_at(0)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def fail() -> None:
    raise FileNotFoundError(2, "No such file", "a.mp4")


def fail_unportably() -> None:
    class LocalError(ValueError):
        pass

    raise LocalError("made here")


def take_memory(gigabytes: int) -> int:
    return len(np.ones(gigabytes * 2**30, np.uint8))


def test_a_call_gives_its_result_and_its_error() -> None:
    assert ISOLATION.run(add, 2, 3) == 5
    with pytest.raises(FileNotFoundError) as raised:
        ISOLATION.run(fail)
    assert raised.value.filename == "a.mp4"
    assert "in fail" in raised.value.__notes__[0], "the traceback of the process comes with it"
    with pytest.raises(RuntimeError, match="^LocalError: made here$"):
        ISOLATION.run(fail_unportably)


def test_a_call_may_crash_its_process() -> None:
    with pytest.raises(CrashError):
        ISOLATION.run(read_address_zero)


@pytest.mark.slow
def test_a_call_may_take_so_long_and_no_longer() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeLimitError) as raised:
        ISOLATION.run(sleep, 3600, seconds=1.0)
    assert raised.value.seconds == 1.0
    assert time.monotonic() - begun < 30


@pytest.mark.slow
@linux_only
def test_a_call_may_take_so_much_memory_and_no_more() -> None:
    limited = Isolation(memory=2**30)
    assert ISOLATION.run(take_memory, 1) == 2**30
    with pytest.raises(MemoryError):
        limited.run(take_memory, 1)  # the array alone has the size of the limit


def count_up(job: str) -> Iterator[tuple[int, int]]:
    """Yield numbers with the process's ID. The job's name selects a failure."""
    for number in range(3):
        if number == 2:
            if job == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if job.startswith("/") and not Path(job).exists():
                Path(job).touch()
                os._exit(1)
            if job == "hang":
                time.sleep(3600)
            if job == "raise":
                raise KeyError("key")
        yield number, os.getpid()


@pytest.mark.slow
def test_each_job_ends_as_it_does_and_none_harms_another(tmp_path: Path) -> None:
    once = str(tmp_path / "crashes once")
    jobs = ["a", "crash", "hang", "raise", once, "b"]
    results: dict[str, list] = {job: [] for job in jobs}
    for job, result in ISOLATION.run_each(
        jobs, count_up, workers=2, patience=lambda job: 1.5 if job == "hang" else 60
    ):
        results[job].append(result.error if isinstance(result, Failure) else result[0])
    assert results["a"] == results["b"] == [0, 1, 2]
    assert results[once] == [0, 1, 0, 1, 2], "it began again"
    assert results["crash"][:-1] == [0, 1, 0, 1], "it was tried twice"
    assert isinstance(results["crash"][-1], CrashError)
    assert results["hang"][:-1] == [0, 1], "it was not tried again"
    assert results["hang"][-1].seconds == 1.5
    assert results["raise"][:-1] == [0, 1]
    assert isinstance(results["raise"][-1], KeyError)


def test_a_process_is_kept_for_the_next_job() -> None:
    results = ISOLATION.run_each("abcdef", count_up, workers=2, patience=lambda job: 60)
    assert len({process for _, (_, process) in results}) <= 2


def test_jobs_are_taken_when_a_process_is_free_and_not_after_a_stop() -> None:
    consumed: list[str] = []
    stop = threading.Event()

    def jobs() -> Iterator[str]:
        for job in "abcdef":
            consumed.append(job)
            yield job

    for job, (number, _) in ISOLATION.run_each(jobs(), count_up, workers=1, patience=lambda job: 60, stop=stop):
        assert consumed[-1] == job
        if (job, number) == ("b", 1):
            stop.set()
    assert consumed == ["a", "b"]


def write_id_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


PARENT = """
import sys
from test_isolated import ISOLATION, write_id_and_sleep

if __name__ == "__main__":
    ISOLATION.run(write_id_and_sleep, sys.argv[1])
"""


@pytest.mark.slow
def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A process ends with its parent even during a job, while it doesn't read its pipe."""
    (tmp_path / "parent.py").write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    file = tmp_path / "id"
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", file], env=environment)
    wait_until(lambda: file.exists() and file.read_text())
    child = int(file.read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(child))


def wait_until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not become true within 60 s")


def is_running(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from ts2net.parallel.isolated import Isolation\nIsolation().run(print)\n")
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert "RuntimeError: no worker process could be started; a script has to keep" in result.stderr
