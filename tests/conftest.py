"""Environment, order and fixtures that all tests share."""

import gc
import multiprocessing
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator

import pytest

from support.fork_server import start_fork_server

# Parallel workers share the cores. torch reads the variable at import, here and in processes that tests start.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))

# Separate caches of models and datasets, apart from the user's. huggingface_hub reads the variable at import.
HF_HOME = tempfile.TemporaryDirectory(prefix="huggingface-")
os.environ["HF_HOME"] = HF_HOME.name

# A shell starts background processes with SIGINT ignored, and child processes inherit that. Tests that interrupt a
# child need the default handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = ["ray", "browser", "spread", "kill", "slow"]


def pytest_sessionstart(session: pytest.Session) -> None:
    is_worker = "PYTEST_XDIST_WORKER" in os.environ  # a few tests run without xdist and may need no process
    if is_worker and "forkserver" in multiprocessing.get_all_start_methods():
        start_fork_server()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest files come first. Otherwise the last one would run alone while the other workers are idle.
    long = Counter(item.path for item in items if any(map(item.get_closest_marker, LONGEST_FIRST)))

    def order(item: pytest.Item) -> tuple[list[bool], int]:
        return [item.get_closest_marker(marker) is None for marker in LONGEST_FIRST], -long[item.path]

    items.sort(key=order)


def pytest_collection_finish() -> None:
    gc.freeze()  # imports stay in memory: collecting garbage among them, as each training does, takes 0.5 s


@pytest.fixture(scope="module")
def assets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A separate folder per module for files derived from models, such as ONNX graphs."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path_factory.mktemp("assets")))
        yield
