"""Help texts of the commands, and Ctrl-C during the imports."""

import subprocess
import sys

import pytest

from ts2net.cli import main


@pytest.fixture
def help_of(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """A function that returns the help of a command on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def read(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        assert not end.value.code
        return capfd.readouterr().out

    return read


def test_a_short_option_asks_for_help_everywhere(help_of) -> None:
    for command in ([], ["search"], ["convert", "clip"]):
        assert help_of(*command, "-h") == help_of(*command, "--help")


def test_patterns_keep_their_stars(help_of) -> None:
    """Asterisks in patterns are kept, although Markdown would parse two of them as emphasis."""
    assert "such as */holidays/*." in help_of("search", "-h")
    assert "--path '*/2024/*'" in help_of("search", "-h")
    assert "'more/**/*.mkv'" in help_of("index", "-h")
    assert "clips/*.mp4" in help_of("score", "-h")


def test_commands_are_listed_in_the_order_of_use(help_of) -> None:
    lines = [line.split()[1] for line in help_of("-h").partition("Commands")[2].splitlines() if line[:2] == "│ "]
    order = ["demo", "score", "index", "search", "explain", "app", "prepare", "evaluate", "convert"]
    assert [name for name in lines if name in order] == order


def test_completion_can_be_installed(help_of) -> None:
    assert "--install-completion" in help_of("-h")


INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from ts2net.cli import main
main()
"""


def test_ctrl_c_while_libraries_load_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
