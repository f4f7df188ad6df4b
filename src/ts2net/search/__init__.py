"""Search for moments of videos: an index of windows is made once, and then searched with sentences.

Public names are imported at their first use, because their libraries need `pip install 'ts2net[search]'`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .hits import Hit
    from .index import VideoIndex
    from .indexing import IndexReport, index_videos
    from .options import SearchOptions
    from .windows import WindowChoice, WindowSettings

__all__ = [
    "Hit",
    "IndexReport",
    "SearchOptions",
    "VideoIndex",
    "WindowChoice",
    "WindowSettings",
    "index_videos",
]

_MODULES = {
    "Hit": "hits",
    "IndexReport": "indexing",
    "SearchOptions": "options",
    "VideoIndex": "index",
    "WindowChoice": "windows",
    "WindowSettings": "windows",
    "index_videos": "indexing",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
