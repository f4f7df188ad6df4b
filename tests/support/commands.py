"""Commands of `ts2net`, run in the process of a test."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from ts2net.cli import main


class Result(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def command_runner(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    columns: int,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Run:
    """Create a function that runs a command line and returns its result.

    Args:
        capfd: Captures the output.
        monkeypatch: Sets the width of the terminal for the test.
        columns: Width of the terminal.
        before: Arguments before those of each call, such as the command's name.
        after: Arguments after those of each call.
    """
    monkeypatch.setenv("COLUMNS", str(columns))

    def run(*args: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*before, *map(str, args), *after])
        return Result(int(end.value.code or 0), *capfd.readouterr())

    return run
