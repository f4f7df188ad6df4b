"""`python ...` in a fork of a process that has already imported the slow modules."""

import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.commands import Result
from support.fork_server import fork_context


class ForkedPython:
    """A process like `subprocess.Popen([sys.executable, *arguments])`, but with a fast start.

    It counts as running until all processes that it has forked have ended.

    Args:
        arguments: `-m` and a module, `-c` and code, or a file; then its arguments.
        environment: Environment of the process. Variables that modules have read at import keep their old values.
    """

    def __init__(self, arguments: Sequence[str | Path], *, environment: Mapping[str, str] = os.environ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        self._out.touch()
        self._err.touch()
        self._process = fork_context().Process(
            target=_run, args=([*map(str, arguments)], str(self._out), str(self._err), dict(environment), os.getcwd())
        )
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the process, or `None` while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it runs, to simulate Ctrl-C or a power cut."""
        if self.poll() is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def wait(self, timeout: float = 60) -> int | None:
        """Wait for the exit code. Returns `None` if the process runs for longer than `timeout` seconds."""
        self._process.join(timeout)
        return self.poll()

    def result(self, timeout: float = 300) -> Result:
        """Wait for the exit code and the output."""
        code = self.wait(timeout)
        assert code is not None, f"still running after {timeout} s: {self.printed()}"
        return Result(code, *self.printed())

    def printed(self) -> tuple[str, str]:
        """Return the content of standard output and standard error."""
        return self._out.read_text(), self._err.read_text()


def _run(arguments: list[str], out: str, err: str, environment: dict[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
