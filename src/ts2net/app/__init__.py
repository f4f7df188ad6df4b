"""A web page over an index: search, play from the moment, see why, add a video. As a server, or as a Hub Space.

Public names are loaded when they are first used: the libraries behind them come with `pip install 'ts2net[app]'`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "UploadLimits": "uploads",
    "create_app": "server",
    "write_space": "space",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "gradio", "uvicorn"):
            raise
        raise ImportError(f"the web page needs the library {error.name}: pip install 'ts2net[app]'") from error


def __dir__() -> list[str]:
    return __all__
