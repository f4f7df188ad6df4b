"""Commands of `ts2net` in a process that has imported nothing yet."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CODE = """
import contextlib, importlib, io, json, sys
library, commands = sys.argv[1], json.loads(sys.argv[2])
if library:
    sys.modules[library] = None  # a module of `None` can't be imported, as if it weren't installed
ends = []
for module, arguments in commands:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = importlib.import_module(module).main(arguments)
        except SystemExit as end:
            code = end.code
    assert out.getvalue() == "", out.getvalue()
    ends.append((code, err.getvalue()))
assert not library or sys.modules[library] is None
print(json.dumps([ends, "torch" in sys.modules]))
"""


def errors_of_commands(
    commands: Sequence[tuple[str, list[str]]], folder: Path, *, without: str = ""
) -> tuple[list[tuple[int, str]], bool]:
    """Run commands that fail, one after the other.

    Args:
        commands: For each the module whose `main` it is, and its arguments.
        folder: Where they are run.
        without: A library that the process can't import.

    Returns:
        The exit code and standard error of each, and whether one has imported torch.
    """
    command = [sys.executable, "-c", CODE, without, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ends, imports_torch = json.loads(done.stdout)
    return [(code, error) for code, error in ends], imports_torch
