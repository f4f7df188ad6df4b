"""Lazy imports of public names, and the extra to install when a library for them is missing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# The extra of this package that includes each optional library, by the library's import name.
EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "evaluate": "train",
    "yaml": "train",
    "peft": "peft",
    "mteb": "mteb",
    "lancedb": "search",
    "pyarrow": "search",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "ray": "ray",
    "fastapi": "app",
    "gradio": "app",
    "uvicorn": "app",
}


def import_public_name(package: str, modules: Mapping[str, str], name: str) -> Any:
    """Import a public name of a package.

    Args:
        package: The package, such as `"ts2net.search"`.
        modules: The module of each public name, such as `{"VideoIndex": "index"}`.
        name: The name.

    Raises:
        AttributeError: If the package has no such public name.
        ImportError: If an optional library is missing. The message says which extra to install.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    with name_missing_extra():
        return getattr(import_module(f".{modules[name]}", package), name)


@contextmanager
def name_missing_extra() -> Iterator[None]:
    """Name the extra to install if an import in this block lacks a library that an extra includes.

    Raises:
        ImportError: Replaces the `ModuleNotFoundError` for such a library.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        advice = missing_library(error)
        if advice is None:
            raise
        raise ImportError(advice) from error


def missing_library(error: ModuleNotFoundError) -> str | None:
    """Return a message with the extra to install for a missing library, or `None` if no extra includes it."""
    while not error.name and isinstance(error.__cause__, ModuleNotFoundError):
        error = error.__cause__  # transformers names the library only in the cause
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    return f"the library {library} is not installed: pip install 'ts2net[{EXTRAS[library]}]'"
