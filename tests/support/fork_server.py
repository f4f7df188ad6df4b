"""Fork server for the processes of tests, which would otherwise spend most of their time on imports of PyTorch."""

import os
from typing import Any

from ts2net.parallel.isolated import Isolation

# LanceDB itself starts threads when imported, which a fork would lose. The last module is most of LanceDB's imports.
_ISOLATION = Isolation(preload=("ts2net.training.trainer", "ts2net.search.streaming", "lance_namespace"))


def fork_context() -> Any:
    """Return the context for starting processes that have imported the common modules."""
    return _ISOLATION.context()


def start_fork_server() -> None:
    """Start the fork server before other code does. There is one server, with the imports of its first user."""
    from multiprocessing import forkserver

    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # Arrow also starts a thread when imported
    fork_context()
    forkserver.ensure_running()
