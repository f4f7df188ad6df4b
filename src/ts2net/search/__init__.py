"""From videos to moments: an index of windows that is made once, and searched by sentences.

Public names are loaded when they are first used: the libraries behind them come with `pip install 'ts2net[search]'`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Hit": "index",
    "IndexReport": "indexing",
    "VideoIndex": "index",
    "WindowSettings": "windows",
    "index_videos": "indexing",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
