"""Retrieval evaluation: encoding, matching and ranking of a split, and the metrics of published tables.

Public names are imported at first use. `evaluate.load(METRIC_PATH)` loads the metrics with the `evaluate` library.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lazy import import_public_name

if TYPE_CHECKING:
    from .metrics import (
        Querybank,
        rank_statistics,
        retrieval_metrics,
        retrieval_ranks,
        text_to_video_ranks,
        video_to_text_ranks,
    )
    from .retrieval import RetrievalResult, evaluate_retrieval

METRIC_PATH = str(Path(__file__).parent / "text_video_retrieval")

__all__ = [
    "METRIC_PATH",
    "Querybank",
    "RetrievalResult",
    "evaluate_retrieval",
    "rank_statistics",
    "retrieval_metrics",
    "retrieval_ranks",
    "text_to_video_ranks",
    "video_to_text_ranks",
]

_MODULES = {
    "Querybank": "metrics",
    "rank_statistics": "metrics",
    "retrieval_metrics": "metrics",
    "retrieval_ranks": "metrics",
    "text_to_video_ranks": "metrics",
    "video_to_text_ranks": "metrics",
    "RetrievalResult": "retrieval",
    "evaluate_retrieval": "retrieval",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
