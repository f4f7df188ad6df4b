"""Where the ONNX files that a model runs from are kept: in the user's cache, each model's in a folder of its own.

The folder is named by all that decides its files: the model's fingerprint, which covers weights, settings and
processor, and the versions of what wrote them. So a file is never of another model, and never needs to be refreshed.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import constants

TRUNK = {"float32": "trunk.onnx", "int8": "trunk_quantized.onnx"}
TEXT = "text_model.onnx"
TOKENIZER = "tokenizer.json"
_GRAPHS = 1  # raise it when the graphs change
_WRITERS = ("onnx", "onnxruntime", "onnxscript", "torch", "transformers")


def onnx_folder(fingerprint: str) -> Path:
    """The folder of a model's files, which need not exist: `HF_ASSETS_CACHE/ts2net/onnx/KEY`.

    Args:
        fingerprint: Of the model and its processor, see `encoding.fingerprint`.

    Raises:
        PackageNotFoundError: If a library that writes or runs the files is missing.
    """
    facts = {"graphs": _GRAPHS, "model": fingerprint} | {name: version(name) for name in _WRITERS}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Path(constants.HF_ASSETS_CACHE) / "ts2net" / "onnx" / key[:32]
