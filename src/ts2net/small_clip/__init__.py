"""A small CLIP that comes with the package, and its training.

It is a plain `transformers.CLIPModel` with its tokenizer, for pictures of 56 x 56 pixels, that knows the things of the
moving-things benchmark. The demo and tests start from it. `python -m ts2net.small_clip` trains it again.
"""

from importlib.resources import files
from pathlib import Path


def small_clip_folder() -> Path:
    """The folder of the small CLIP: a checkpoint for `CLIPModel.from_pretrained` and `TS2NetModel.from_clip`."""
    return Path(str(files(__package__) / "checkpoint"))


__all__ = ["small_clip_folder"]
