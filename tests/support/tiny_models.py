"""Models and processors that are small enough for tests, with all parts of the large ones."""

from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ts2net import TS2NetConfig, TS2NetModel, TS2NetProcessor

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = 16


def tiny_tokenizer() -> CLIPTokenizer:
    """Create CLIP's tokenizer with a vocabulary of single characters."""
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in LETTERS:
        vocab[letter] = len(vocab)
        vocab[f"{letter}</w>"] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=WORDS)


def tiny_clip_config() -> CLIPConfig:
    """Create the configuration of a CLIP with 16 patches per frame. Text and projection have one width, as usual."""
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {"num_hidden_layers": 4, "vocab_size": 80, "max_position_embeddings": WORDS}
    vision = {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    return CLIPConfig(
        text_config=size | text | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config=size | vision,
        projection_dim=32,
    )


def tiny_clip(seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    clip = CLIPModel(tiny_clip_config()).eval()
    spread_weights(clip)
    return clip


def tiny_config(**overrides: Any) -> TS2NetConfig:
    """Create the configuration of a complete TS2-Net on the tiny CLIP, with 3 of 16 patches selected."""
    settings = {"num_frames": 6, "selection_num_samples": 20, "shift_stride": 5, "shift_offset": 2}
    return TS2NetConfig.from_clip_config(tiny_clip_config(), **(settings | overrides))


def tiny_model(seed: int = 0, **overrides: Any) -> TS2NetModel:
    torch.manual_seed(seed)
    model = TS2NetModel(tiny_config(**overrides)).eval()
    spread_weights(model)
    return model


def tiny_processor(config: TS2NetConfig | None = None) -> TS2NetProcessor:
    return TS2NetProcessor.for_model(tiny_tokenizer(), config or tiny_config())


def spread_weights(model: torch.nn.Module) -> None:
    """Make the weights large enough that every part of a model affects its outputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def random_inputs(
    videos: int = 3, frames: int = 6, texts: int | None = None, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Create inputs of a tiny model, without padding frames."""
    generator = torch.Generator().manual_seed(seed)
    texts = videos if texts is None else texts
    input_ids = torch.randint(2, 70, (texts, 9), generator=generator)
    input_ids[:, 0] = 0
    input_ids[:, -1] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "pixel_values_videos": torch.randn(videos, frames, 3, 32, 32, generator=generator),
        "padding_mask_videos": torch.ones(videos, frames, dtype=torch.bool),
    }
