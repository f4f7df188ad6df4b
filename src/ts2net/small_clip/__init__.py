"""A small CLIP that comes with the package, and its training.

It is a plain `transformers.CLIPModel` with its tokenizer, for pictures of 56 x 56 pixels, trained on the things of the
moving-things benchmark. The demo and the tests start from it. `python -m ts2net.small_clip` reproduces the training.
"""

from importlib.resources import files
from pathlib import Path


def small_clip_folder() -> Path:
    """Return the small CLIP's folder, a checkpoint for `CLIPModel.from_pretrained` and `TS2NetModel.from_clip`."""
    return Path(str(files(__package__) / "checkpoint"))


__all__ = ["small_clip_folder"]
