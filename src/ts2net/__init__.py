"""TS2-Net text-video retrieval on Hugging Face transformers.

Public names are loaded when they are first used, so that `import ts2net` costs next to nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "TS2NetConfig": "configuration_ts2net",
    "TS2NetVisionConfig": "configuration_ts2net",
    "TS2NetModel": "modeling_ts2net",
    "TS2NetOutput": "modeling_ts2net",
    "TS2NetProcessor": "processing_ts2net",
    "TS2NetVideoProcessor": "video_processing_ts2net",
    "TextVideoScoringPipeline": "pipeline_ts2net",
    "TextVideoScorer": "scoring",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # All of them, because each registers its classes with transformers' Auto classes, which work together.
    homes = {home: import_module(f".{home}", __name__) for home in _HOMES.values()}
    return getattr(homes[_HOMES[name]], name)


def __dir__() -> list[str]:
    return __all__
