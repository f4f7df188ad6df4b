"""Location of the ONNX files of models: in the user's cache, with a separate folder for each model.

The folder name depends on everything that determines the files: the model's fingerprint, which covers weights,
settings and processor, and the versions of the libraries that wrote the files. So the files never become outdated.
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
    """Return the folder of a model's files, which may not exist yet: `HF_ASSETS_CACHE/ts2net/onnx/KEY`.

    Args:
        fingerprint: Fingerprint of the model and its processor, see `encoding.fingerprint`.

    Raises:
        PackageNotFoundError: If a library that writes or runs the files is missing.
    """
    facts = {"graphs": _GRAPHS, "model": fingerprint} | {name: version(name) for name in _WRITERS}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Path(constants.HF_ASSETS_CACHE) / "ts2net" / "onnx" / key[:32]
