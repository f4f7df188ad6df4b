"""Datasets: prepare shards once, and stream batches from them in any number of processes.

Public names are imported on first use, because they need the libraries of `pip install 'ts2net[train]'`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .loading import load_benchmark, read_manifest
    from .manifest import Manifest

__all__ = [
    "Manifest",
    "load_benchmark",
    "read_manifest",
]

_MODULES = {
    "Manifest": "manifest",
    "load_benchmark": "loading",
    "read_manifest": "loading",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
