"""Commands of `ts2net`, run in the process of a test."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from ts2net.cli import main


class Result(NamedTuple):
    """What a command left behind."""

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
    """A function that runs a command line and gives what it left behind.

    Args:
        capfd: Captures what is printed.
        monkeypatch: Sets the width of the terminal for the test.
        columns: That width.
        before: Arguments in front of those of each call, such as the command's name.
        after: Arguments behind them.
    """
    monkeypatch.setenv("COLUMNS", str(columns))

    def run(*args: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*before, *map(str, args), *after])
        return Result(int(end.value.code or 0), *capfd.readouterr())

    return run
