"""From rows of a benchmark to streamed batches: shards are prepared once, and read by any number of processes.

Public names are loaded on first use: the libraries that they need come with `pip install 'ts2net[train]'`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Manifest": "manifest",
    "load_benchmark": "loading",
    "read_manifest": "loading",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
