"""Commands without the libraries of their extra say which extra to install, in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# A module of `None` is one that can't be imported, as if it weren't installed.
WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; from {module} import main; sys.exit(main(sys.argv[2:]))"


@pytest.mark.parametrize(
    ("module", "arguments", "library", "extra"),
    [
        *(
            (module, arguments, library, "train")
            for module, arguments in [
                ("ts2net.cli", ["demo"]),
                ("ts2net.cli", ["evaluate", "model", "msrvtt", "data"]),
                ("ts2net.training.__main__", ["--recipe", "msrvtt"]),
            ]
            for library in ("accelerate", "datasets")
        ),
        ("ts2net.cli", ["demo", "--serve"], "uvicorn", "app"),
        ("ts2net.cli", ["demo", "--serve"], "gradio", "app"),
        ("ts2net.cli", ["demo"], "lancedb", "search"),
    ],
)
def test_the_extra_is_named(module: str, arguments: list[str], library: str, extra: str, tmp_path: Path) -> None:
    """Before anything is made."""
    command = [sys.executable, "-c", WITHOUT.format(module=module), library, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: the library {library} is not installed: pip install 'ts2net[{extra}]'\n"
    assert not any(tmp_path.iterdir())
