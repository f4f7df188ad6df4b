"""Convert original TS2-Net checkpoints and OpenAI's CLIP files, and start a TS2-Net from any transformers CLIP.

Tables map each tensor's name in a checkpoint to its name here. A name that is missing or unknown is an error, so no
layer stays random by accident. The configuration is derived from the shapes of the tensors. What the shapes do not
determine is a constant of the authors' code.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from .checkpoint_reading import read_state_dict
from .configuration_ts2net import TS2NetConfig
from .modeling_ts2net import TS2NetModel

Model = TypeVar("Model", bound=PreTrainedModel)

HEAD_WIDTH = 64  # in every CLIP of OpenAI and in the temporal encoder

# Names of modules in OpenAI's residual blocks -> in transformers' encoder layers.
BLOCK_MODULES = {
    "ln_1": "layer_norm1",
    "attn.in_proj": "self_attn.qkv_proj",  # one matrix in OpenAI's block, three in transformers'
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}

CLIP_TENSORS = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
# OpenAI multiplies by these matrices from the right, a linear layer multiplies by its transpose.
TRANSPOSED = ("text_projection.weight", "visual_projection.weight")

RELEASED_TENSORS = {
    "frame_position_embeddings.weight": "temporal_encoder.position_embedding.weight",
    "visual_token_selector.score_predictor.in_conv.0.weight": "token_selector.layer_norm.weight",
    "visual_token_selector.score_predictor.in_conv.0.bias": "token_selector.layer_norm.bias",
    "visual_token_selector.score_predictor.in_conv.1.weight": "token_selector.in_proj.weight",
    "visual_token_selector.score_predictor.out_conv.0.weight": "token_selector.out_proj.weight",
    "visual_token_selector.score_predictor.out_conv.2.weight": "token_selector.score_proj.weight",
}

# Sizes that OpenAI stores as tensors, and the causal mask that a scripted model may contain.
CLIP_UNUSED = r"input_resolution|context_length|vocab_size|transformer\.resblocks\.\d+\.attn_mask"
# Modules that the authors' code creates and saves although no output depends on them.
RELEASED_UNUSED = rf"(visual_prompt_encoder|text_prompt_encoder|text_token_selector)\..+|clip\.({CLIP_UNUSED})"

# A tensor that only one family of checkpoints has, so that errors can report what the file is instead.
FAMILIES = {
    "clip.visual.class_embedding": "a TS2-Net checkpoint of the released code",
    "visual.class_embedding": "an OpenAI CLIP checkpoint",
    "visual.attnpool.positional_embedding": "an OpenAI CLIP with a ResNet, which has no patch tokens; "
    "TS2-Net needs a vision transformer",
    "vision_model.embeddings.class_embedding": "a file of a transformers model; give its folder",
}


def convert_original_checkpoint(
    path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any], **config_overrides: Any
) -> TS2NetModel:
    """Convert a checkpoint of the released code (`pytorch_model.bin.N`).

    Sizes are derived from the tensors, which are copied bit for bit in float32. Modules that the released code saves
    but does not use are left out. The model computes what the released code computes with the noise of its token
    selection switched off.

    Args:
        path_or_state_dict: The file, or its contents.
        config_overrides: Fields of [`TS2NetConfig`] or [`TS2NetVisionConfig`]. They override what the file implies.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read as tensors alone, lacks a tensor, has an unknown one, or contradicts
            itself or an override.
        TypeError: If an override is not a field of the configuration.
    """
    state, origin = read_state_dict(path_or_state_dict)
    shift_layers = _shift_layers(state)
    temporal_layers = _count_blocks(state, "transformerClip")
    names = {
        **_clip_names(state, "clip.", shift_layers),
        **_block_names("transformerClip", "temporal_encoder", temporal_layers),
        **RELEASED_TENSORS,
    }
    _check_names(state, names, RELEASED_UNUSED, "clip.visual.class_embedding", origin)

    clip_config = _clip_config(state, "clip.", origin)
    num_tokens, _ = _shape(state, "clip.visual.positional_embedding", 2, origin)
    num_positions, _ = _shape(state, "frame_position_embeddings.weight", 2, origin)
    settings = {
        "shift_kind": "token" if shift_layers else "none",
        "shift_layers": shift_layers,
        # The authors' stride is the number of tokens, [CLS] included, divided by 7: 7 for ViT-B/32, 28 for ViT-B/16.
        # Their offset is always 3.
        "shift_stride": num_tokens // 7,
        "shift_offset": 3,
        "num_frames": _num_frames(num_positions, clip_config.text_config.max_position_embeddings),
        "padding_mode": "released",
        "temporal_num_layers": temporal_layers,
        "temporal_num_positions": num_positions,
        "temporal_layer_norm_eps": 1e-12,
    }
    config = _config(clip_config, settings | config_overrides, origin)
    # Skip the tensors of modules that an override removes.
    if config.selection_kind != "perturbed_topk":
        names = {source: target for source, target in names.items() if not target.startswith("token_selector.")}
    if config.temporal_num_layers == 0:
        names = {source: target for source, target in names.items() if not target.startswith("temporal_encoder.")}
    return _fill(TS2NetModel(config), _rename(state, names, origin), origin)


def convert_openai_clip(
    path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any], **config_overrides: Any
) -> TS2NetModel:
    """Create a TS2-Net from an OpenAI CLIP file, as [`TS2NetModel.from_clip`] does from a transformers CLIP.

    Args:
        path_or_state_dict: OpenAI's TorchScript archive, a file with its state dict, or the state dict.
        config_overrides: Fields of [`TS2NetConfig`] or [`TS2NetVisionConfig`].

    Returns:
        The model, in evaluation mode. CLIP's tensors are copied bit for bit in float32, the temporal encoder is
        initialised with layers of the text transformer, and the rest at random.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read as tensors alone, is not a CLIP with a vision transformer, lacks a
            tensor or has an unknown one.
        TypeError: If an override is not a field of the configuration.
    """
    state, origin = read_state_dict(path_or_state_dict)
    names = _clip_names(state)
    _check_names(state, names, CLIP_UNUSED, "visual.class_embedding", origin)
    clip_config = _clip_config(state, "", origin)
    _config(clip_config, config_overrides, origin)  # checked first, so that an error names the file
    clip = _fill(CLIPModel(clip_config), _rename(state, names, origin), origin)
    return TS2NetModel.from_clip_model(clip, **config_overrides)


def convert_clip(name_or_path: str | os.PathLike[str], **config_overrides: Any) -> TS2NetModel:
    """Create a TS2-Net from any CLIP: an OpenAI file, or a folder or Hub repository in transformers' format.

    See [`convert_openai_clip`] and [`TS2NetModel.from_clip`], also for the errors.
    """
    if os.path.isfile(name_or_path):
        return convert_openai_clip(name_or_path, **config_overrides)
    return TS2NetModel.from_clip(name_or_path, **config_overrides)


# Names


def _block_names(source: str, target: str, count: int, shift_layers: Iterable[int] = ()) -> dict[str, str]:
    names = {}
    for layer in range(count):
        for block_module, target_module in BLOCK_MODULES.items():
            source_module = block_module.replace("attn.", "attn.net.") if layer in shift_layers else block_module
            # The fused matrix is a parameter of the attention module itself, so its name has an underscore.
            joint = "_" if block_module == "attn.in_proj" else "."
            for kind in ("weight", "bias"):
                names[f"{source}.resblocks.{layer}.{source_module}{joint}{kind}"] = (
                    f"{target}.layers.{layer}.{target_module}.{kind}"
                )
    return names


def _count_blocks(state: Mapping[str, Any], stack: str) -> int:
    pattern = re.compile(re.escape(stack) + r"\.resblocks\.(\d+)\.")
    # At least one, so that a missing stack shows as missing tensors.
    return max(1, len({match[1] for match in map(pattern.match, state) if match}))


def _shift_layers(state: Mapping[str, Any]) -> list[int]:
    # The authors wrap the attention of a shifted layer in a module with the attribute `net`.
    pattern = re.compile(r"clip\.visual\.transformer\.resblocks\.(\d{1,4})\.attn\.net\.")
    return sorted({int(match[1]) for match in map(pattern.match, state) if match})


def _clip_names(state: Mapping[str, Any], prefix: str = "", shift_layers: Iterable[int] = ()) -> dict[str, str]:
    text, vision = f"{prefix}transformer", f"{prefix}visual.transformer"
    return {
        **{f"{prefix}{source}": target for source, target in CLIP_TENSORS.items()},
        **_block_names(text, "text_model.encoder", _count_blocks(state, text)),
        **_block_names(vision, "vision_model.encoder", _count_blocks(state, vision), shift_layers),
    }


def _check_names(state: Mapping[str, Any], names: Mapping[str, str], unused: str, marker: str, origin: str) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        message = f"{origin}: not {FAMILIES[marker]}, it lacks {_some(missing)}"
        others = [family for other, family in FAMILIES.items() if other in state and other != marker]
        raise ValueError(f"{message}; it looks like {others[0]}" if others else message)
    unexpected = [name for name in state if name not in names and not re.fullmatch(unused, name)]
    if unexpected:
        raise ValueError(f"{origin}: not {FAMILIES[marker]}, it has unknown tensors: {_some(unexpected)}")


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


# Sizes


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int, origin: str) -> tuple[int, ...]:
    sizes = tuple(state[name].shape)
    if len(sizes) != dimensions or 0 in sizes:
        raise ValueError(f"{origin}: {name} should have {dimensions} dimensions and not be empty, got shape {sizes}")
    return sizes


def _clip_config(state: Mapping[str, Tensor], prefix: str, origin: str) -> CLIPConfig:
    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return _shape(state, prefix + name, dimensions, origin)

    vocab_size, text_width = shape("token_embedding.weight", 2)
    context_length, _ = shape("positional_embedding", 2)
    _, projection_dim = shape("text_projection", 2)
    shape("visual.proj", 2)
    vision_width, _, patch_size, _ = shape("visual.conv1.weight", 4)
    num_tokens, _ = shape("visual.positional_embedding", 2)
    grid = math.isqrt(num_tokens - 1)
    if grid**2 != num_tokens - 1:
        raise ValueError(f"{origin}: {num_tokens - 1} positions of patches don't make a square grid")
    for side, width in (("text", text_width), ("vision", vision_width)):
        if width % HEAD_WIDTH:
            raise ValueError(f"{origin}: the {side} width must be a multiple of {HEAD_WIDTH}, got {width}")

    text_config = {
        "vocab_size": vocab_size,
        "max_position_embeddings": context_length,
        "hidden_size": text_width,
        "intermediate_size": shape("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": _count_blocks(state, f"{prefix}transformer"),
        "num_attention_heads": text_width // HEAD_WIDTH,
        # The last two tokens of CLIP's vocabulary.
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
    }
    vision_config = {
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "hidden_size": vision_width,
        "intermediate_size": shape("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": _count_blocks(state, f"{prefix}visual.transformer"),
        "num_attention_heads": vision_width // HEAD_WIDTH,
    }
    return CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=projection_dim)


def _config(clip_config: CLIPConfig, settings: Mapping[str, Any], origin: str) -> TS2NetConfig:
    if "dtype" in settings:
        raise TypeError(
            "a conversion has no setting dtype: it gives float32 weights, convert them with model.to(dtype)"
        )
    try:
        return TS2NetConfig.from_clip_config(clip_config, **settings)
    except StrictDataclassError as error:  # its own message has a line per nested validator
        raise ValueError(f"{origin}: {error.__cause__ or error}") from error


def _num_frames(num_positions: int, context_length: int) -> int:
    # The authors use the text's position table for videos of 12 frames, and a longer one only for the datasets with
    # 64 frames per video. A frame has 4 tokens.
    return min(12 if num_positions <= context_length else 64, max(1, num_positions // 4))


# Tensors


def _rename(state: Mapping[str, Tensor], names: Mapping[str, str], origin: str) -> dict[str, Tensor]:
    renamed = {}
    for source, target in names.items():
        tensor = state[source]
        if not tensor.is_floating_point():
            raise ValueError(f"{origin}: {source} should hold floating-point numbers, got {tensor.dtype}")
        tensor = tensor.to(torch.float32)
        if "qkv_proj" in target:
            if tensor.ndim == 0 or len(tensor) % 3:
                raise ValueError(f"{origin}: {source} should be three in one, got shape {tuple(tensor.shape)}")
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                renamed[target.replace("qkv", part)] = rows
        else:
            renamed[target] = tensor.T if target in TRANSPOSED else tensor
    return renamed


def _fill(model: Model, state: Mapping[str, Tensor], origin: str) -> Model:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in {**expected, **shapes}:
        if shapes.get(name) != expected.get(name):
            raise ValueError(
                f"{origin}: {name} has shape {shapes.get(name, 'none')}, "
                f"and {expected.get(name, 'none')} in the model that the configuration describes"
            )
    model.load_state_dict(state)
    return model.eval()


__all__ = ["convert_clip", "convert_openai_clip", "convert_original_checkpoint"]
