"""A CLIP made on the spot, and the TS2-Net that starts from it: small, untrained, and otherwise like any other.

Notable here:
- The tokenizer is a real CLIP tokenizer. Its vocabulary is laid out as CLIP's is, all bytes first, each also as the
  end of a word, then what byte-pair encoding joins, then the start and the end of a text. So it knows every word of
  the captions and can spell all others.
- Words and places start as large as what they are added to. With CLIP's own, a hundredth of that, a short training
  from nothing never finds out where on a frame a thing is, let alone which way it goes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor

_START, _END = "<|startoftext|>", "<|endoftext|>"
_TEXT_LENGTH = 32  # tokens
_FRAMES_PER_SECOND = 1
_SETTINGS: dict[str, Any] = {"num_frames": 4, "temporal_num_layers": 2, "selection_num_samples": 100}
_MAX_MERGES = 1000  # more than the words of the captions need


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
        text_config=layers | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": _TEXT_LENGTH},
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


def train_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """Learn byte-pair merges from texts, and make a CLIP tokenizer of them."""
    letters = sorted(ByteLevel.alphabet())
    letters += [f"{letter}</w>" for letter in letters]
    learner = CLIPTokenizer().backend_tokenizer  # with CLIP's own way of cleaning and splitting
    # Ties between pairs are settled by the ids of their parts. Without ids from us, the trainer numbers the letters
    # that end words in random order, and the same texts give other merges each time.
    trainer = BpeTrainer(
        vocab_size=len(letters) + _MAX_MERGES,
        special_tokens=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*letters, *("".join(pair) for pair in merges), _START, _END]
    vocab = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=_TEXT_LENGTH)


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
