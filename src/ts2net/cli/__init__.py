"""The command `ts2net`: a thin face that parses, calls and prints.

Notable here: torch and transformers are imported inside the commands, so that `--help` answers at once. Answers go to
standard output and everything else to standard error. Exit codes: 0 is done, 1 failed, 2 is a wrong command line, 130
is Ctrl-C.
"""

from ..errors import one_line, report_error
from . import convert, demo, evaluate, explain, index, prepare, score, search, serve  # noqa: F401  each registers its command
from .app import app


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: The arguments; `None` takes the process's own.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        app(args, prog_name="ts2net")
    except Exception as error:  # whatever fails, and wherever in a library: a person gets one line
        report_error(one_line(error))
        raise SystemExit(1) from None
