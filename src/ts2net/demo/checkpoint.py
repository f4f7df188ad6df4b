"""A CLIP made on the spot, and the TS2-Net that starts from it: small, untrained, and otherwise like any other.

Notable here:
- Words and places start as large as what they are added to. With CLIP's own, a hundredth of that, a short training
  from nothing never finds out where on a frame a thing is, let alone which way it goes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel

from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from ..small_clip.tokenizer import TEXT_LENGTH, train_tokenizer

_FRAMES_PER_SECOND = 1
_SETTINGS: dict[str, Any] = {"num_frames": 4, "temporal_num_layers": 2, "selection_num_samples": 100}


def make_clip_checkpoint(
    folder: Path, captions: Iterable[str], seed: int = 0, *, image_size: int = 32, patch_size: int = 8
) -> None:
    """Save an untrained CLIP, model and tokenizer, as a transformers checkpoint.

    Args:
        folder: Where to.
        captions: Texts whose words the tokenizer learns.
        seed: Of the weights.
        image_size: Pixels of a frame, each way.
        patch_size: Pixels of a patch, each way.
    """
    tokenizer = train_tokenizer(captions)
    layers: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "hidden_act": "gelu"}
    layers |= {"num_hidden_layers": 4, "num_attention_heads": 2}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config=layers | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": TEXT_LENGTH},
        vision_config=layers | {"image_size": image_size, "patch_size": patch_size},
        projection_dim=64,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        clip = CLIPModel(config)
        clip.vision_model.embeddings.position_embedding.weight.normal_(std=0.5)
        clip.text_model.embeddings.token_embedding.weight.normal_(std=0.4)
        clip.text_model.embeddings.position_embedding.weight.normal_(std=0.2)
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def start_from_clip(clip: Path, seed: int = 0, **changes: Any) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Start a TS2-Net and its processor from the demo's CLIP.

    Args:
        clip: The folder of the checkpoint.
        seed: Of the weights that CLIP doesn't have.
        changes: Fields of the configuration that differ from the demo's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TS2NetModel.from_clip(clip, **_SETTINGS | changes)
    processor = TS2NetProcessor.from_clip(clip, model.config)
    processor.video_processor.fps = _FRAMES_PER_SECOND
    return model, processor
