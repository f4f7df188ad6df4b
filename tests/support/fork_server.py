"""The server that processes of tests are forked from: most of their time is importing PyTorch and transformers."""

import os
from typing import Any

from ts2net.parallel.isolated import Isolation

# LanceDB itself starts threads when it is imported, which a fork loses. The last of these is most of what it imports.
_ISOLATION = Isolation(preload=("ts2net.training.trainer", "ts2net.search.streaming", "lance_namespace"))


def fork_context() -> Any:
    """How to start processes that have imported what they all need."""
    return _ISOLATION.context()


def start_fork_server() -> None:
    """Start it before others do, who need less: it serves all, and imports what the first one wants."""
    from multiprocessing import forkserver

    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # Arrow too starts a thread when it is imported
    fork_context()
    forkserver.ensure_running()
