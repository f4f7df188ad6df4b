"""Ctrl-C stops a command even if a library turns it into an error of its own."""

import contextlib
import signal

import pytest
import typer

from ts2net.cli.app import stopping_keeps_what_is_done
from ts2net.interruption import ctrl_c_noticed


def import_a_library() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise RecursionError("of a library that was imported in part")


def test_an_error_after_ctrl_c_is_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), ctrl_c_noticed():
        import_a_library()
    assert signal.getsignal(signal.SIGINT) == before


def test_an_error_without_ctrl_c_is_that_error():
    with pytest.raises(ValueError, match="no such file"), ctrl_c_noticed():
        raise ValueError("no such file")


def test_a_command_that_goes_on_says_so_whatever_a_library_makes_of_ctrl_c(capsys):
    with pytest.raises(typer.Exit) as end, stopping_keeps_what_is_done():
        import_a_library()
    assert end.value.exit_code == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
