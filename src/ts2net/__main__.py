"""`python -m ts2net` is the command `ts2net`."""

from .cli import main

main()
