"""`ts2net` and `python -m ts2net`: the command line, which Ctrl-C ends quietly even while its libraries load."""

import sys


def run() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        from .cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
