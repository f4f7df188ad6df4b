"""Training: the loss over all processes, the gradient cache, the trainer and its arguments.

Public names are imported at first use. Training needs additional dependencies: `pip install 'ts2net[train]'`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .arguments import TS2NetTrainingArguments
    from .card import CardDetails
    from .contrastive import ContrastiveLoss, contrastive_loss_over_processes
    from .gradient_cache import GradientCache
    from .monitoring import NonFiniteError, TooManyBrokenVideosError
    from .trainer import TS2NetTrainer

__all__ = [
    "CardDetails",
    "ContrastiveLoss",
    "GradientCache",
    "NonFiniteError",
    "TS2NetTrainer",
    "TS2NetTrainingArguments",
    "TooManyBrokenVideosError",
    "contrastive_loss_over_processes",
]

_MODULES = {
    "ContrastiveLoss": "contrastive",
    "contrastive_loss_over_processes": "contrastive",
    "GradientCache": "gradient_cache",
    "CardDetails": "card",
    "NonFiniteError": "monitoring",
    "TooManyBrokenVideosError": "monitoring",
    "TS2NetTrainer": "trainer",
    "TS2NetTrainingArguments": "arguments",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
