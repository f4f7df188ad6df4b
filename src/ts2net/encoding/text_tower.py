"""Text tower of a model without PyTorch and transformers, from the cached files of an earlier run on ONNX Runtime.

The import of these two libraries takes longer than a search of a small index.
"""

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import one_line
from ..text_cleaning_ts2net import clean_text
from .onnx_cache import TEXT, TOKENIZER, onnx_folder

if TYPE_CHECKING:
    from ..processing_ts2net import TS2NetProcessor


class TextTower:
    """A tokenizer and a text tower. Create it with [`TextTower.of`].

    Args:
        folder: The model's folder of ONNX files.

    Raises:
        ValueError: If a file can't be opened.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        try:
            settings = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
            self._cleans = bool(settings["cleans"])
            self._tokenizer = Tokenizer.from_str(settings["tokenizer"])
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(settings["max_words"])
            self._session = onnxruntime.InferenceSession(folder / TEXT, providers=["CPUExecutionProvider"])
        except Exception as error:  # each kind of damage has its own class
            raise ValueError(f"cannot open the text tower in {folder}: {one_line(error)}") from error

    @classmethod
    def of(cls, fingerprint: str) -> "TextTower | None":
        """Open the text tower of a model, or return `None` if its files or the required libraries are missing.

        Args:
            fingerprint: Fingerprint of the model and its processor, see `encoding.fingerprint`.

        Raises:
            ValueError: If a file can't be opened.
        """
        try:
            folder = onnx_folder(fingerprint)
        except PackageNotFoundError:
            return None
        return cls(folder) if all((folder / name).exists() for name in (TEXT, TOKENIZER)) else None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode each text separately, as `encoding.texts.encode_texts` does; returns `(Q, D)` in float32."""
        return np.concatenate([self._encode(clean_text(text) if self._cleans else text) for text in texts])

    def _encode(self, text: str) -> np.ndarray:
        ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        embeds: np.ndarray = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
        return embeds


def tokenizer_settings(processor: "TS2NetProcessor") -> str | None:
    """Return the tokenizer settings for a [`TextTower`]; `None` for a tokenizer that only transformers can run."""
    from transformers import CLIPTokenizer

    backend = getattr(processor.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return json.dumps(
        {
            "tokenizer": backend.to_str(),
            "max_words": processor.tokenizer.model_max_length,
            "cleans": isinstance(processor.tokenizer, CLIPTokenizer),
        }
    )
