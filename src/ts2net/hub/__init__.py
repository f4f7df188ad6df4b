"""Models in and out: loading from anywhere, cards, and folders that stand alone on the Hub.

Public names are imported at their first use, so that a part that needs no model does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import TAGS as TAGS
    from .card import Evaluation as Evaluation
    from .card import add_evaluation as add_evaluation
    from .card import make_model_card as make_model_card
    from .loading import ModelLoadingError as ModelLoadingError
    from .loading import load_model as load_model
    from .saving import HUB_FILES as HUB_FILES
    from .saving import push_to_hub as push_to_hub
    from .saving import save_hub_folder as save_hub_folder

_HOMES = {
    "TAGS": "card",
    "Evaluation": "card",
    "add_evaluation": "card",
    "make_model_card": "card",
    "ModelLoadingError": "loading",
    "load_model": "loading",
    "HUB_FILES": "saving",
    "push_to_hub": "saving",
    "save_hub_folder": "saving",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
