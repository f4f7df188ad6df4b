"""Adapters (PEFT's LoRA) on a TS2-Net: adding, saving, loading and merging them.

Notable here:
- An adapter's folder has the adapters and the layers that CLIP does not have, and names the TS2-Net that they are for.
  It has no `config.json`: with one, transformers would look for the whole model beside it.
- Adapters are put into the model itself, which stays a [`TS2NetModel`] for everything that is done with it.
- Every command merges them into the weights when it loads them. The result is a model like any other, at full speed,
  and its scores differ from those with adapters by rounding alone.
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
# Settings of PEFT that don't change what is trained.
_NO_SETTINGS = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision")
_PREFIX = "base_model.model."  # PEFT's, before the names of the tensors in a file


@dataclass(frozen=True)
class AdapterSource:
    """What a folder or repository of adapters says of them.

    Args:
        base: The TS2-Net that they are for: a folder or a repository.
        revision: Its branch, tag or commit; `None` is `main`.
    """

    base: str
    revision: str | None


def lora_config(r: int, target: Sequence[str] = DEFAULT_TARGET) -> "LoraConfig":
    """LoRA on CLIP's layers, beside which the layers that CLIP does not have are trained as usual.

    Args:
        r: Rank of each adapter, whose product is multiplied by 2.
        target: Last parts of the names of CLIP's linear layers, such as `q_proj`, `fc1` or `visual_projection`.

    Raises:
        ImportError: If peft is missing.
        ValueError: If a number is out of range or no layer is named.
    """
    with name_missing_extra():
        from peft import LoraConfig

    if r < 1:
        raise ValueError(f"the rank of LoRA must be at least 1, got {r}")
    if not target or not all(name.isidentifier() for name in target):
        raise ValueError(f"expected names of layers such as q_proj, got {list(target)}")
    # Not the new layers, which have some of the same names.
    pattern = rf"(?!(?:{'|'.join(NEW_LAYERS)})\.)(?:.*\.)?(?:{'|'.join(target)})"
    return LoraConfig(r=r, lora_alpha=2 * r, target_modules=pattern, modules_to_save=list(NEW_LAYERS))


def read_lora_config(path: str | os.PathLike[str]) -> "LoraConfig":
    """Read a configuration that PEFT has written, an `adapter_config.json` or a folder with one.

    Raises:
        ImportError: If peft is missing.
        OSError: If it can't be read.
        ValueError: If it is no configuration of LoRA.
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
    """Put new adapters into a model, of which only they and `modules_to_save` are trained from then on.

    Args:
        model: The model, which is changed.
        config: Of the adapters.
        base: The folder or repository that the model was loaded from, which the adapters will name.
        revision: Its branch, tag or commit.

    Raises:
        ValueError: If the model has adapters already, or none of its layers is meant.
    """
    if has_adapters(model):
        raise ValueError("the model has adapters already: merge them first with ts2net.hub.merge_adapters")
    # Of several such names PEFT takes those that the model has.
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
    """The configuration of a model's adapters."""
    config: LoraConfig = model.peft_config[_NAME]
    return config


def adapter_settings(model: TS2NetModel) -> dict[str, Any] | None:
    """What decides the training of a model's adapters, in values that JSON can hold; `None` without adapters."""
    if not has_adapters(model):
        return None
    fields = adapter_config(model).to_dict()
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in sorted(fields.items())
        if value and name not in _NO_SETTINGS
    }


def adapter_base(model: nn.Module) -> str:
    """The folder or repository of the model that a model's adapters are for."""
    return str(adapter_config(model).base_model_name_or_path)


def merge_adapters(model: TS2NetModel) -> None:
    """Merge a model's adapters into its weights. It is changed, and has none then."""
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
    """How many of a model's parameters are trained, and how many it has. A trained copy of a layer counts once."""
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if ".original_module." not in f".{name}."
    }
    trained = sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)
    return trained, sum(parameter.numel() for parameter in parameters.values())


def load_adapter_weights(model: TS2NetModel, folder: Path) -> None:
    """Load the adapters of a folder into those of a model, which must be as many and alike.

    Raises:
        OSError: If there are none.
        ValueError: If they are of another kind.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = folder / ADAPTER_WEIGHTS
    weights = {name.removeprefix(_PREFIX): weight for name, weight in load_file(file).items()}
    present = get_peft_model_state_dict(model, save_embedding_layers=False)  # else the Hub is asked for the base
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
    """What a folder or repository says of its adapters; `None` if it has none.

    Raises:
        ValueError: If its `adapter_config.json` names no model.
    """
    try:
        file = find_adapter_config_file(name_or_path, revision=revision)
    except OSError:  # nor is there such a repository, which loading the model will tell better
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
    """Put the adapters of a folder or repository into the TS2-Net that they are for.

    Raises:
        ImportError: If peft is missing.
        OSError: If they can't be read.
        ValueError: If they are of another kind of model.
    """
    files = [cached_file(name_or_path, name, revision=revision) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    source = find_adapters(name_or_path, revision)
    assert source is not None
    add_adapters(model, read_lora_config(files[0]), source.base, source.revision)
    load_adapter_weights(model, Path(files[1]).parent)


def check_pushable(model: TS2NetModel) -> None:
    """Check that adapters name a model that others can load.

    Raises:
        ValueError: If it is a folder of this machine.
    """
    base = adapter_base(model)
    if Path(base).is_dir() or Path(base).is_absolute():
        raise ValueError(
            f"adapters name the model that they are for, and {base} is on this machine alone: push that folder first, "
            f"with `hf upload OWNER/NAME {base}`, and train with --model OWNER/NAME; or merge the adapters with "
            f"`ts2net merge` and push the whole model"
        )
