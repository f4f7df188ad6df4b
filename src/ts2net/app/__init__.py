"""Web page of an index to search, play and explain moments and to add videos, as a server or as a Hub Space.

Public names are imported at their first use, because their libraries need `pip install 'ts2net[app]'`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .server import create_app
    from .space import write_space
    from .uploads import UploadLimits

__all__ = [
    "UploadLimits",
    "create_app",
    "write_space",
]

_MODULES = {
    "UploadLimits": "uploads",
    "create_app": "server",
    "write_space": "space",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
