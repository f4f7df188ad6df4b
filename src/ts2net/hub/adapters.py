"""Adapters (PEFT's LoRA) of a TS2-Net: adding, saving, loading and merging.

- The folder of an adapter holds the adapters, the layers that CLIP does not have, and the name of the base TS2-Net. It
  has no `config.json`: with one, transformers would look for the whole model in the same folder.
- Adapters are injected into the model itself, which remains a [`TS2NetModel`].
- Every command merges adapters into the weights when it loads them. The merged model has the speed of a plain model,
  and its scores differ from those with adapters by rounding only.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import nn
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from ..lazy import name_missing_extra
from ..modeling_ts2net import TS2NetModel

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
NEW_LAYERS = ("token_selector", "temporal_encoder", "word_interaction")
"""The modules of a TS2-Net that CLIP does not have."""
DEFAULT_TARGET = ("q_proj", "v_proj")
_NAME = "default"
# Settings of PEFT that don't affect training.
_NO_SETTINGS = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision")
_PREFIX = "base_model.model."  # PEFT's prefix of the tensor names in a file


@dataclass(frozen=True)
class AdapterSource:
    """Base model of the adapters in a folder or repository.

    Args:
        base: The base TS2-Net: a folder or a repository.
        revision: Branch, tag or commit of the base model; `None` is `main`.
    """

    base: str
    revision: str | None


def lora_config(r: int, target: Sequence[str] = DEFAULT_TARGET) -> "LoraConfig":
    """Create a LoRA configuration for CLIP's layers. The layers that CLIP does not have are trained in full.

    Args:
        r: Rank of each adapter. `lora_alpha` is `2 * r`, so the product of the matrices is multiplied by 2.
        target: Last parts of the names of CLIP's linear layers, such as `q_proj`, `fc1` or `visual_projection`.

    Raises:
        ImportError: If peft is missing.
        ValueError: If `r` is below 1, or `target` is empty or not a list of names.
    """
    with name_missing_extra():
        from peft import LoraConfig

    if r < 1:
        raise ValueError(f"the rank of LoRA must be at least 1, got {r}")
    if not target or not all(name.isidentifier() for name in target):
        raise ValueError(f"expected names of layers such as q_proj, got {list(target)}")
    # Exclude the new layers, because some of their sublayers have the same names.
    pattern = rf"(?!(?:{'|'.join(NEW_LAYERS)})\.)(?:.*\.)?(?:{'|'.join(target)})"
    return LoraConfig(r=r, lora_alpha=2 * r, target_modules=pattern, modules_to_save=list(NEW_LAYERS))


def read_lora_config(path: str | os.PathLike[str]) -> "LoraConfig":
    """Read a LoRA configuration written by PEFT: an `adapter_config.json` or a folder that contains one.

    Raises:
        ImportError: If peft is missing.
        OSError: If the file can't be read.
        ValueError: If the file is not a LoRA configuration.
    """
    with name_missing_extra():
        from peft import LoraConfig

    path = Path(path)
    file = path / ADAPTER_CONFIG if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        kind = fields.pop("peft_type", None)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file}: not a configuration of PEFT: {error}") from None
    if kind != "LORA":
        raise ValueError(f"{file}: peft_type is {kind!r}, and only 'LORA' can be trained")
    try:
        return LoraConfig(**fields)
    except TypeError as error:
        raise ValueError(f"{file}: {error}") from None


def add_adapters(model: TS2NetModel, config: "LoraConfig", base: str, revision: str | None = None) -> None:
    """Add new adapters to a model. Afterwards only the adapters and `modules_to_save` are trained.

    Args:
        model: The model, changed in place.
        config: Configuration of the adapters, changed in place.
        base: The folder or repository that the model was loaded from, recorded in the adapters' configuration.
        revision: Branch, tag or commit of `base`.

    Raises:
        ValueError: If the model already has adapters, or `config` matches none of its layers.
    """
    if has_adapters(model):
        raise ValueError("the model has adapters already: merge them first with ts2net.hub.merge_adapters")
    # Drop modules that are None in this model. PEFT ignores names that the model does not have.
    saved = [name for name in config.modules_to_save or () if getattr(model, name, model) is not None]
    config.modules_to_save = saved or None
    try:
        model.add_adapter(config)
    except ValueError as error:
        raise ValueError(f"no adapter can be added: {error}") from error
    config.base_model_name_or_path = os.path.abspath(base) if os.path.isdir(base) else base
    config.revision = revision


def has_adapters(model: nn.Module) -> bool:
    """Whether a model has adapters that are not merged."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def adapter_config(model: Any) -> "LoraConfig":
    """Return the configuration of a model's adapters."""
    config: LoraConfig = model.peft_config[_NAME]
    return config


def adapter_settings(model: TS2NetModel) -> dict[str, Any] | None:
    """Return the adapter settings that affect training, in values that JSON can store; `None` without adapters."""
    if not has_adapters(model):
        return None
    fields = adapter_config(model).to_dict()
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in sorted(fields.items())
        if value and name not in _NO_SETTINGS
    }


def adapter_base(model: nn.Module) -> str:
    """Return the folder or repository of the base model of a model's adapters."""
    return str(adapter_config(model).base_model_name_or_path)


def merge_adapters(model: TS2NetModel) -> None:
    """Merge a model's adapters into its weights, in place, and remove the adapters."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[_NAME])
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)


def trained_share(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of trained and of all parameters. A layer with a trained copy counts once."""
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if ".original_module." not in f".{name}."
    }
    trained = sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in parameters.values())


def load_adapter_weights(model: TS2NetModel, folder: Path) -> None:
    """Load the adapter weights of a folder into a model with adapters of the same names and shapes.

    Raises:
        OSError: If the folder has no adapter weights.
        ValueError: If a name or shape differs.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = folder / ADAPTER_WEIGHTS
    weights = {name.removeprefix(_PREFIX): weight for name, weight in load_file(file).items()}
    present = get_peft_model_state_dict(model, save_embedding_layers=False)  # the default may query the Hub
    expected = {name: tuple(weight.shape) for name, weight in present.items()}
    for name in sorted(expected.keys() | weights.keys()):
        shape = tuple(weights[name].shape) if name in weights else "none"
        if shape != expected.get(name, "none"):
            raise ValueError(
                f"{file} has adapters of another kind: {name} has the shape {shape}, expected "
                f"{expected.get(name, 'none')}"
            )
    set_peft_model_state_dict(model, weights)


def find_adapters(name_or_path: str, revision: str | None = None) -> AdapterSource | None:
    """Read the base model from a folder or repository of adapters; `None` if it has no adapters.

    Raises:
        ValueError: If the `adapter_config.json` names no model.
    """
    try:
        file = find_adapter_config_file(name_or_path, revision=revision)
    except OSError:  # no such repository: loading the model raises a clearer error
        return None
    if file is None:
        return None
    try:
        fields: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        base, base_revision = fields["base_model_name_or_path"], fields.get("revision")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"its {ADAPTER_CONFIG} names no model: {error}") from None
    if not isinstance(base, str) or not isinstance(base_revision, str | None):
        raise ValueError(f"its {ADAPTER_CONFIG} names {base!r}, which is no model")
    return AdapterSource(base, base_revision)


def load_adapters(model: TS2NetModel, name_or_path: str, revision: str | None = None) -> None:
    """Load the adapters of a folder or repository into their base TS2-Net.

    Raises:
        ImportError: If peft is missing.
        OSError: If the adapters can't be read.
        ValueError: If the adapters don't fit the model.
    """
    files = [cached_file(name_or_path, name, revision=revision) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    source = find_adapters(name_or_path, revision)
    assert source is not None
    add_adapters(model, read_lora_config(files[0]), source.base, source.revision)
    load_adapter_weights(model, Path(files[1]).parent)


def check_pushable(model: TS2NetModel) -> None:
    """Check that the base model of adapters can be loaded on other machines.

    Raises:
        ValueError: If the base model is a local folder.
    """
    base = adapter_base(model)
    if Path(base).is_dir() or Path(base).is_absolute():
        raise ValueError(
            f"adapters name the model that they are for, and {base} is on this machine alone: push that folder first, "
            f"with `hf upload OWNER/NAME {base}`, and train with --model OWNER/NAME; or merge the adapters with "
            f"`ts2net merge` and push the whole model"
        )
