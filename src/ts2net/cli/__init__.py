"""The command `ts2net`, which parses arguments, calls the library and prints results.

Commands import torch and transformers when they run, so that `--help` responds at once. Results go to standard output,
everything else to standard error. Exit codes: 0 success, 1 failure, 2 wrong command line, 130 Ctrl-C.
"""


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: The arguments. `None` uses the arguments of the process.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        # Imports are inside the function, so that Ctrl-C is handled while they run.
        from ..interruption import ctrl_c_noticed

        with ctrl_c_noticed():
            _run(args)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # any failure, in any library, is reported in one line
        from ..errors import one_line
        from ..parallel.failing import fail

        raise SystemExit(fail(one_line(error))) from None


def _run(args: list[str] | None) -> None:
    # Importing a command registers it.
    from . import convert, demo, evaluate, explain, export, index, indexes, merge, prepare, score, search, serve  # noqa: F401
    from .app import app

    app(args, prog_name="ts2net")
