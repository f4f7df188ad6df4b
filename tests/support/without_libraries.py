"""Commands of `ts2net` in a process that lacks libraries."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support.forked_python import ForkedPython

CODE = """
import contextlib, importlib, io, json, os, sys
folder, libraries, commands = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
os.chdir(folder)
for name in list(sys.modules):  # what was imported before the fork
    if name.partition(".")[0] in ("ts2net", *libraries):
        del sys.modules[name]
absent = dict.fromkeys(libraries)  # a module of `None` can't be imported, as if it weren't installed
sys.modules |= absent
ends = []
for module, arguments in commands:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = importlib.import_module(module).main(arguments)
        except SystemExit as end:
            code = end.code
    ends.append((code, out.getvalue(), err.getvalue()))
assert absent.items() <= sys.modules.items()
print(json.dumps(ends))
"""


class End(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run_without(libraries: Sequence[str], commands: Sequence[tuple[str, list[str]]], folder: Path) -> list[End]:
    """Run commands, one after the other, in a process that can't import some libraries.

    Args:
        libraries: Their names.
        commands: For each the module whose `main` it is, and its arguments.
        folder: Where they are run.
    """
    process = ForkedPython(["-c", CODE, folder, json.dumps(libraries), json.dumps(commands)])
    code = process.wait()
    printed, errors = process.printed()
    assert code == 0, errors
    return [End(*end) for end in json.loads(printed)]
