"""The server that processes of tests are forked from: most of their time is importing PyTorch and transformers."""

import multiprocessing
import os
from multiprocessing.context import BaseContext

# LanceDB itself starts threads when it is imported, which a fork loses. The last of these is most of what it imports.
_IMPORTS = ["ts2net.training.trainer", "ts2net.search.streaming", "lance_namespace"]


def fork_context() -> BaseContext:
    """How to start processes that have imported what they all need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTS)
    return context


def start_fork_server() -> None:
    """Start it before others do, who need less: it serves all, and imports what the first one wants."""
    from multiprocessing import forkserver

    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # Arrow too starts a thread when it is imported
    fork_context()
    forkserver.ensure_running()
