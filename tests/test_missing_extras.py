"""Commands without the libraries of their extra say which extra to install, in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from ts2net.errors import needs_extra

# A module of `None` is one that can't be imported, as if it weren't installed.
WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; from {module} import main; sys.exit(main(sys.argv[2:]))"


@pytest.mark.parametrize("library", ["accelerate", "datasets"])
@pytest.mark.parametrize(
    ("module", "arguments", "purpose"),
    [
        ("ts2net.cli", ["demo"], "the demo"),
        ("ts2net.cli", ["evaluate", "model", "msrvtt", "data"], "evaluation"),
        ("ts2net.training.__main__", ["--recipe", "msrvtt"], "training"),
    ],
)
def test_the_extra_is_named(module: str, arguments: list[str], purpose: str, library: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT.format(module=module), library, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    subject = "reading data" if library == "datasets" and "reading data" in done.stderr else purpose
    assert done.stderr == f"error: {subject} needs the library {library}: pip install 'ts2net[train]'\n"
    assert not any(tmp_path.iterdir())


def test_a_fault_of_this_package_stays_what_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="ts2net.nothing"), needs_extra("train", "training"):
        import ts2net.nothing  # noqa: F401
