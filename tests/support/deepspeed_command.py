"""`python -m ts2net.training`, with DeepSpeed that compiles nothing."""

import sys

from support.deepspeed_runs import without_extensions
from ts2net.training.__main__ import main

if __name__ == "__main__":
    without_extensions()
    sys.exit(main())
