"""Loading models from folders and the Hub, saving self-contained Hub folders, and model cards.

Public names are imported at first use, so that code that needs no model does not import torch.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .card import TAGS, Evaluation, add_evaluation, make_model_card
    from .loading import ModelLoadingError, load_model
    from .saving import HUB_FILES, push_to_hub, save_hub_folder

__all__ = [
    "HUB_FILES",
    "TAGS",
    "Evaluation",
    "ModelLoadingError",
    "add_evaluation",
    "load_model",
    "make_model_card",
    "push_to_hub",
    "save_hub_folder",
]

_MODULES = {
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

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
