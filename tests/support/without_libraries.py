"""Code and commands of `ts2net` in a process that lacks libraries."""

import json
from collections.abc import Sequence
from pathlib import Path

from support.commands import Result
from support.forked_python import ForkedPython

FORGET = """
import json, sys
libraries = json.loads(sys.argv.pop(1))
for name in list(sys.modules):  # what was imported before the fork
    if name.partition(".")[0] in ("ts2net", *libraries):
        del sys.modules[name]
sys.modules |= dict.fromkeys(libraries)  # a module of `None` can't be imported, as if it weren't installed
"""
COMMANDS = """
import contextlib, importlib, io, os
os.chdir(sys.argv[1])
ends = []
for module, arguments in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = importlib.import_module(module).main(arguments)
        except SystemExit as end:
            code = end.code
    ends.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ends))
"""


def run_without(libraries: Sequence[str], code: str, *arguments: str | Path) -> Result:
    """Run code in a process that can't import some libraries."""
    return ForkedPython(["-c", FORGET + code, json.dumps(libraries), *arguments]).result()


def run_commands_without(
    libraries: Sequence[str], commands: Sequence[tuple[str, list[str]]], folder: Path
) -> list[Result]:
    """Run commands, one after the other, in a process that can't import some libraries.

    Args:
        libraries: Names of the missing libraries.
        commands: The module whose `main` is called, and its arguments, for each command.
        folder: Working directory of the commands.
    """
    done = run_without(libraries, COMMANDS, folder, json.dumps(commands))
    assert done.code == 0, done.err
    return [Result(*end) for end in json.loads(done.out)]
