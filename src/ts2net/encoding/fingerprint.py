"""Fingerprint of a model, to check that a query comes from the model that an index was made with.

The weights alone do not determine the embeddings. The configuration and the processor define the shift, the number of
selected patches, the normalisation of pixels and the tokenisation. Settings that only name a model or only serve its
training are left out. So are values equal to the library's defaults, because another version of the library may have
more settings.
"""

import hashlib
import json
from typing import Any

import torch

from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .onnx_model import OnnxBackedModel

# "dtype" is among them, because the types of the weights are hashed.
_NOT_OF_EMBEDDINGS = {
    "architectures",
    "auto_map",
    "attention_dropout",
    "dtype",
    "initializer_factor",
    "initializer_range",
    "logit_scale_init_value",
    "num_frames",
    "selection_gradient",
    "selection_num_samples",
    "selection_sigma",
    "transformers_version",
}
# Without the settings that sample and pad frames, because the index defines them.
_OF_PIXELS = (
    "crop_size",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
)


def fingerprint(model: TS2NetModel, processor: TS2NetProcessor) -> str:
    """Compute a SHA-256 hash of everything that determines a model's embeddings of windows and texts.

    These are the names, shapes, types and bytes of its state, its configuration, the pixel settings of its processor,
    and the vocabulary and the merges of its tokenizer. The same checkpoint loaded in another dtype has another
    fingerprint, because its embeddings differ. A model on ONNX Runtime keeps the fingerprint of the original model.
    """
    if isinstance(model, OnnxBackedModel):
        return model.fingerprint
    pixels = processor.video_processor.to_dict()
    settings = {
        "config": _deciding(model.config.to_diff_dict()),
        "pixels": {name: pixels.get(name) for name in _OF_PIXELS},
        "tokens": _tokens(processor.tokenizer),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {(*tensor.shape,)}\n".encode())
        data = tensor.detach().cpu().contiguous()
        digest.update(memoryview(data.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _deciding(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _NOT_OF_EMBEDDINGS and not name.startswith("_")
    }


def _tokens(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    merges = None if backend is None else json.loads(backend.to_str())["model"].get("merges")
    return {"vocabulary": tokenizer.get_vocab(), "merges": merges, "longest": tokenizer.model_max_length}
