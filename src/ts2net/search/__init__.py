"""From videos to moments: an index of windows that is made once, and searched by sentences.

Public names are imported at their first use: the libraries behind them come with `pip install 'ts2net[search]'`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .index import Hit, VideoIndex
    from .indexing import IndexReport, index_videos
    from .windows import WindowSettings

__all__ = [
    "Hit",
    "IndexReport",
    "VideoIndex",
    "WindowSettings",
    "index_videos",
]

_MODULES = {
    "Hit": "index",
    "IndexReport": "indexing",
    "VideoIndex": "index",
    "WindowSettings": "windows",
    "index_videos": "indexing",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
