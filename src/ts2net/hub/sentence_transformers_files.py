"""Sentence Transformers' configuration files in a model folder, for loading it with `SentenceTransformer(folder)`.

The library's own modules are sufficient: they call the model's `get_text_features` and `get_video_features`, and
normalise the vector of a text or video to length 1. Writing the files does not need the library.
"""

import json
from pathlib import Path
from typing import Any

_MODULES = "sentence_transformers.base.modules"
_FILES: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{_MODULES}.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{_MODULES}.normalize.Normalize"},
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            modality: {"method": f"get_{modality}_features", "method_output_name": "pooler_output"}
            for modality in ("text", "video")
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
    "1_Normalize/config.json": {},
}


def write_sentence_transformers_files(folder: Path) -> None:
    """Write the files into a model folder."""
    for name, content in _FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
