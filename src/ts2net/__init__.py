"""TS2-Net text-video retrieval on Hugging Face transformers.

Public names are imported at their first use, so that `import ts2net` takes almost no time.
"""

# Type checkers treat it like `typing.TYPE_CHECKING`. Importing `typing` takes longer than the rest of this module.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from .configuration_ts2net import TS2NetConfig, TS2NetVisionConfig
    from .encoding.onnx_runtime import TS2NetOnnx
    from .modeling_ts2net import TS2NetModel, TS2NetOutput
    from .pipeline_ts2net import TextVideoScoringPipeline
    from .processing_ts2net import TS2NetProcessor
    from .scoring import TextVideoScorer
    from .video_processing_ts2net import TS2NetVideoProcessor

__version__ = "0.1.0"

__all__ = [
    "TS2NetConfig",
    "TS2NetModel",
    "TS2NetOnnx",
    "TS2NetOutput",
    "TS2NetProcessor",
    "TS2NetVideoProcessor",
    "TS2NetVisionConfig",
    "TextVideoScorer",
    "TextVideoScoringPipeline",
    "__version__",
]

_MODULES = {
    "TS2NetConfig": "configuration_ts2net",
    "TS2NetVisionConfig": "configuration_ts2net",
    "TS2NetModel": "modeling_ts2net",
    "TS2NetOnnx": "encoding.onnx_runtime",
    "TS2NetOutput": "modeling_ts2net",
    "TS2NetProcessor": "processing_ts2net",
    "TS2NetVideoProcessor": "video_processing_ts2net",
    "TextVideoScoringPipeline": "pipeline_ts2net",
    "TextVideoScorer": "scoring",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and report names that do not exist

    def __getattr__(name: str) -> object:
        from .lazy import import_public_name

        attribute = import_public_name(__name__, _MODULES, name)
        # Each module registers its classes with transformers' Auto classes, which need each other.
        for other in _MODULES:
            import_public_name(__name__, _MODULES, other)
        return attribute


def __dir__() -> list[str]:
    return __all__
