"""Training: the loss over all processes, the gradient cache, the trainer and its arguments.

Notable here: names are loaded when they are first used. Training needs more than the rest of the package,
`pip install 'ts2net[train]'`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ContrastiveLoss": "contrastive",
    "contrastive_loss_over_processes": "contrastive",
    "GradientCache": "gradient_cache",
    "CardDetails": "card",
    "NonFiniteError": "monitoring",
    "TooManyBrokenVideosError": "monitoring",
    "TS2NetTrainer": "trainer",
    "TS2NetTrainingArguments": "arguments",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
