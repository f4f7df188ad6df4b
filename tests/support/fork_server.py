"""The server that processes of tests are forked from: most of their time is importing PyTorch and transformers."""

import multiprocessing
from multiprocessing.context import BaseContext

import pytest


def fork_context() -> BaseContext:
    """How to start processes that have imported what they all need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ts2net.training.trainer", "ts2net.search.repairing"])
    return context


def start_fork_server() -> None:
    """Start it before others do, who need less: it serves all, and imports what the first one wants."""
    from multiprocessing import forkserver

    fork_context()
    with pytest.MonkeyPatch.context() as patch:
        # LanceDB starts anew in a forked process, and warns of operations that were under way. The server has none.
        patch.setenv("PYTHONWARNINGS", "ignore:lancedb fork support is experimental:RuntimeWarning")
        forkserver.ensure_running()
