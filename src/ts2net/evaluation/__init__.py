"""How well a model retrieves: encode a split, match it, rank it, and the figures of published tables.

Names are loaded when they are first used. `evaluate.load(METRIC_PATH)` gives the metrics as one of the library
`evaluate`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

METRIC_PATH = str(Path(__file__).parent / "text_video_retrieval")

_HOMES = {
    "Querybank": "metrics",
    "rank_statistics": "metrics",
    "retrieval_metrics": "metrics",
    "retrieval_ranks": "metrics",
    "text_to_video_ranks": "metrics",
    "video_to_text_ranks": "metrics",
    "RetrievalResult": "retrieval",
    "evaluate_retrieval": "retrieval",
}

__all__ = ["METRIC_PATH", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
