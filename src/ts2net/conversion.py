"""Other people's weights in: original TS2-Net checkpoints, OpenAI's CLIP files, and any transformers CLIP.

Notable here:
- A file is read for its tensors only. safetensors has nothing else in it; everything else goes through torch's
  restricted unpickler, TorchScript archives included, so no code of a checkpoint ever runs.
- Which tensors a checkpoint must hold is written down as a table from its names to ours. A name that is missing, or
  that nobody knows, is an error and never a layer that silently stays random.
- The configuration is read off the shapes. What the shapes don't tell is what the authors' code has as constants.
"""

import io
import math
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from .configuration_ts2net import TS2NetConfig
from .modeling_ts2net import TS2NetModel

Model = TypeVar("Model", bound=PreTrainedModel)

HEAD_WIDTH = 64  # of every CLIP of OpenAI's, and of the temporal encoder

# Keys under which training scripts keep the weights beside an optimiser's state and the like.
WRAPPERS = ("state_dict", "model_state_dict", "model")

# A module's name in OpenAI's residual blocks, and in transformers' encoder layers.
BLOCK_MODULES = {
    "ln_1": "layer_norm1",
    "attn.in_proj": "self_attn.qkv_proj",  # one matrix there, three here
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
# OpenAI multiplies by these from the right, a linear layer by its transpose.
TRANSPOSED = ("text_projection.weight", "visual_projection.weight")

RELEASED_TENSORS = {
    "frame_position_embeddings.weight": "temporal_encoder.position_embedding.weight",
    "visual_token_selector.score_predictor.in_conv.0.weight": "token_selector.layer_norm.weight",
    "visual_token_selector.score_predictor.in_conv.0.bias": "token_selector.layer_norm.bias",
    "visual_token_selector.score_predictor.in_conv.1.weight": "token_selector.in_proj.weight",
    "visual_token_selector.score_predictor.out_conv.0.weight": "token_selector.out_proj.weight",
    "visual_token_selector.score_predictor.out_conv.2.weight": "token_selector.score_proj.weight",
}

# Sizes that OpenAI keeps as tensors, and the causal mask that a scripted model may carry.
CLIP_UNUSED = r"input_resolution|context_length|vocab_size|transformer\.resblocks\.\d+\.attn_mask"
# Modules that the authors' code makes and saves, and that no output depends on.
RELEASED_UNUSED = rf"(visual_prompt_encoder|text_prompt_encoder|text_token_selector)\..+|clip\.({CLIP_UNUSED})"

# What torch.load reads of an archive beside `data/`.
PLAIN_RECORDS = ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment")

# A tensor that marks each family of checkpoints, for an error that says what was given instead.
FAMILIES = {
    "clip.visual.class_embedding": "a TS2-Net checkpoint of the released code",
    "visual.class_embedding": "an OpenAI CLIP checkpoint",
    "visual.attnpool.positional_embedding": "an OpenAI CLIP with a ResNet, which has no patch tokens; "
    "TS2-Net needs a vision transformer",
    "vision_model.embeddings.class_embedding": "a file of a transformers model; give the folder that it lies in",
}


def convert_original_checkpoint(
    path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any], **config_overrides: Any
) -> TS2NetModel:
    """Make a model from a checkpoint of the released code (`pytorch_model.bin.N`).

    Sizes are read off the tensors. Every tensor arrives bit for bit, in float32; the modules that the released code
    saves but doesn't use are left out. The model computes what the released code does with the noise of its token
    selection switched off.

    Args:
        path_or_state_dict: The file, or its contents.
        config_overrides: Fields of [`TS2NetConfig`] or [`TS2NetVisionConfig`]; they win over what the file implies.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file can't be read as tensors alone, lacks a tensor, has one too many, or contradicts
            itself or an override.
        TypeError: If an override is no field of the configuration.
    """
    state, origin = _read(path_or_state_dict)
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
        # The authors divide the number of tokens, [CLS] counted, by 7: 7 for ViT-B/32 and 28 for ViT-B/16. The tokens
        # from the frame after start 3 further along whatever the stride.
        "shift_stride": num_tokens // 7,
        "shift_offset": 3,
        "num_frames": _num_frames(num_positions, clip_config.text_config.max_position_embeddings),
        "padding_mode": "released",
        "temporal_num_layers": temporal_layers,
        "temporal_num_positions": num_positions,
        "temporal_layer_norm_eps": 1e-12,
    }
    config = _config(clip_config, settings | config_overrides, origin)
    # What an override leaves out of the model is left out of the checkpoint too.
    if config.selection_kind != "perturbed_topk":
        names = {theirs: ours for theirs, ours in names.items() if not ours.startswith("token_selector.")}
    if config.temporal_num_layers == 0:
        names = {theirs: ours for theirs, ours in names.items() if not ours.startswith("temporal_encoder.")}
    return _fill(TS2NetModel(config), _rename(state, names, origin), origin)


def convert_openai_clip(
    path_or_state_dict: str | os.PathLike[str] | Mapping[str, Any], **config_overrides: Any
) -> TS2NetModel:
    """Start a TS2-Net from a CLIP as OpenAI publishes it, as [`TS2NetModel.from_clip`] does from a transformers one.

    Args:
        path_or_state_dict: OpenAI's TorchScript archive, a file with its state dict, or the state dict.
        config_overrides: Fields of [`TS2NetConfig`] or [`TS2NetVisionConfig`].

    Returns:
        The model, in evaluation mode: CLIP's tensors bit for bit in float32, the temporal encoder started from the
        text transformer, the rest initialised.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file can't be read as tensors alone, is no CLIP with a vision transformer, lacks a tensor
            or has one too many.
        TypeError: If an override is no field of the configuration.
    """
    state, origin = _read(path_or_state_dict)
    names = _clip_names(state)
    _check_names(state, names, CLIP_UNUSED, "visual.class_embedding", origin)
    clip_config = _clip_config(state, "", origin)
    _config(clip_config, config_overrides, origin)  # first, so that a refusal names the file
    clip = _fill(CLIPModel(clip_config), _rename(state, names, origin), origin)
    return TS2NetModel.from_clip_model(clip, **config_overrides)


def convert_clip(name_or_path: str | os.PathLike[str], **config_overrides: Any) -> TS2NetModel:
    """Start a TS2-Net from any CLIP: one file is OpenAI's, a folder or a Hub repository is transformers'.

    Raises:
        As [`convert_openai_clip`] and [`TS2NetModel.from_clip`] do.
    """
    if os.path.isfile(name_or_path):
        return convert_openai_clip(name_or_path, **config_overrides)
    return TS2NetModel.from_clip(name_or_path, **config_overrides)


# Names


def _block_names(source: str, target: str, count: int, shift_layers: Iterable[int] = ()) -> dict[str, str]:
    names = {}
    for layer in range(count):
        for theirs, ours in BLOCK_MODULES.items():
            module = theirs.replace("attn.", "attn.net.") if layer in shift_layers else theirs
            # The fused matrix is a bare parameter of its module, so an underscore joins its name.
            joint = "_" if theirs == "attn.in_proj" else "."
            for kind in ("weight", "bias"):
                names[f"{source}.resblocks.{layer}.{module}{joint}{kind}"] = f"{target}.layers.{layer}.{ours}.{kind}"
    return names


def _count_blocks(state: Mapping[str, Any], stack: str) -> int:
    pattern = re.compile(re.escape(stack) + r"\.resblocks\.(\d+)\.")
    # At least one, so that a stack that isn't there at all is missed.
    return max(1, len({match[1] for match in map(pattern.match, state) if match}))


def _shift_layers(state: Mapping[str, Any]) -> list[int]:
    # The authors wrap the attention of a shifted layer in a module that calls it `net`.
    pattern = re.compile(r"clip\.visual\.transformer\.resblocks\.(\d{1,4})\.attn\.net\.")
    return sorted({int(match[1]) for match in map(pattern.match, state) if match})


def _clip_names(state: Mapping[str, Any], prefix: str = "", shift_layers: Iterable[int] = ()) -> dict[str, str]:
    text, vision = f"{prefix}transformer", f"{prefix}visual.transformer"
    return {
        **{f"{prefix}{theirs}": ours for theirs, ours in CLIP_TENSORS.items()},
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
        raise ValueError(f"{origin}: not {FAMILIES[marker]}, nothing is known of {_some(unexpected)}")


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
        # CLIP's vocabulary ends with these two.
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
        raise TypeError("dtype is no setting of a conversion: the weights arrive in float32, use model.to(dtype)")
    try:
        return TS2NetConfig.from_clip_config(clip_config, **settings)
    except StrictDataclassError as error:  # its own message has a line for each level of checking
        raise ValueError(f"{origin}: {error.__cause__ or error}") from error


def _num_frames(num_positions: int, context_length: int) -> int:
    # The authors keep the text's table of positions for videos of 12 frames, and make a longer one only for the data
    # sets that they read 64 frames of. Each frame has 4 tokens.
    return min(12 if num_positions <= context_length else 64, max(1, num_positions // 4))


# Tensors


def _rename(state: Mapping[str, Tensor], names: Mapping[str, str], origin: str) -> dict[str, Tensor]:
    renamed = {}
    for theirs, ours in names.items():
        tensor = state[theirs]
        if not tensor.is_floating_point():
            raise ValueError(f"{origin}: {theirs} should hold floating-point numbers, got {tensor.dtype}")
        tensor = tensor.to(torch.float32)
        if "qkv_proj" in ours:
            if tensor.ndim == 0 or len(tensor) % 3:
                raise ValueError(f"{origin}: {theirs} should be three in one, got shape {tuple(tensor.shape)}")
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                renamed[ours.replace("qkv", part)] = rows
        else:
            renamed[ours] = tensor.T if ours in TRANSPOSED else tensor
    return renamed


def _fill(model: Model, state: Mapping[str, Tensor], origin: str) -> Model:
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in {**ours, **theirs}:
        if theirs.get(name) != ours.get(name):
            raise ValueError(
                f"{origin}: {name} has shape {theirs.get(name, 'none')}, "
                f"and {ours.get(name, 'none')} in the model that the configuration describes"
            )
    model.load_state_dict(state)
    return model.eval()


# Files


def _read(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Return the plain state dict, and what to call its source in a message."""
    if isinstance(source, Mapping):
        state, origin = source, "the state dict"
    else:
        state, origin = _read_file(Path(source)), str(source)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{origin}: holds no named tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{origin}: {name!r} should name a tensor, got a {type(value).__name__}")
        # A few bytes can pose as a tensor of any size, by strides of 0 or on the meta device.
        if (
            value.layout != torch.strided
            or value.is_nested
            or value.is_meta
            or value.nbytes > value.untyped_storage().nbytes()
        ):
            raise ValueError(f"{origin}: {name} isn't a plain tensor with all its numbers")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""  # of DistributedDataParallel
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, origin


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if path.suffix == ".safetensors" or head[8:] == b"{":
            return load_file(path)
        if head.startswith(b"PK"):
            return _read_archive(path)
        if head.startswith(b"\x80"):  # a pickle: how torch.save wrote before version 1.6
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own words go on to advise how to load such a file all the same.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        culprit = f" ({found[1]})" if found else ""
        raise ValueError(f"{path}: refused, it isn't made of tensors alone{culprit} and could run code") from None
    except Exception as error:
        # A broken or a hostile file can fail anywhere in a reader, with any type of error.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: no whole checkpoint: {reason}") from error
    raise ValueError(f"{path}: no checkpoint; expected safetensors, or what torch.save or torch.jit.save writes")


def _read_archive(path: Path) -> Any:
    """Read the tensors of what torch.save or torch.jit.save wrote."""
    if not zipfile.is_zipfile(path):
        raise ValueError("the end of its archive is missing, so it was cut short")
    with zipfile.ZipFile(path) as archive:
        names = [record.filename.partition("/")[2] for record in archive.infolist()]  # below the archive's folder
        kept = [
            record
            for name, record in zip(names, archive.infolist(), strict=True)
            if name.startswith("data/") or name in PLAIN_RECORDS
        ]
        if "data.pkl" not in names:
            raise ValueError("a zip archive, but without the data.pkl of torch.save and torch.jit.save")
        # Both store tensors uncompressed, so a record that is larger than its file is a trap.
        if sum(record.file_size for record in kept) > path.stat().st_size:
            raise ValueError("its records claim to be larger than the file")
        if "constants.pkl" not in names:
            return torch.load(path, map_location="cpu", weights_only=True)
        # torch.load takes this record as the mark of TorchScript and won't read such an archive for its weights. The
        # rest, less the code, is what torch.save writes, but for the classes of the modules.
        plain = io.BytesIO()
        with zipfile.ZipFile(plain, "w") as copy:
            for record in kept:
                copy.writestr(record.filename, archive.read(record))

    plain.seek(0)
    stand_ins: list[Any] = []
    for name in get_unsafe_globals_in_checkpoint(plain):
        if name.startswith("__torch__."):
            stand_ins.append((_Module, name))
        elif name.startswith("torch.jit._pickle."):  # these only say of what type a list is
            stand_ins.append((_first, name))
    with safe_globals(stand_ins):
        plain.seek(0)
        module = torch.load(plain, map_location="cpu", weights_only=True)
    return module.state_dict()


def _first(value: Any, *_: Any) -> Any:
    return value


class _Module:
    """Stands in for every class of a TorchScript archive: holds attributes and does nothing."""

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor by the path of attributes that leads to it; of a module that is used twice, the first."""
        tensors, visited, waiting = {}, set(), [("", self)]
        while waiting:
            prefix, module = waiting.pop()
            if id(module) in visited:
                continue
            visited.add(id(module))
            for name, value in module.attributes.items():
                if isinstance(value, Tensor):
                    tensors[prefix + name] = value.detach()
                elif isinstance(value, _Module):
                    waiting.append((f"{prefix}{name}.", value))
        return tensors


__all__ = ["convert_clip", "convert_openai_clip", "convert_original_checkpoint"]
