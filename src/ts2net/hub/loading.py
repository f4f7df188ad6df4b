"""Load a model and its processor from a folder or from the Hub, with one function and one error for all commands."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedConfig

from ..errors import one_line
from ..lazy import name_missing_extra
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .adapters import ADAPTER_CONFIG, AdapterSource, find_adapters, load_adapters, merge_adapters
from .repositories import check_source

logger = logging.getLogger(__name__)


class ModelLoadingError(ValueError):
    """A model cannot be loaded. The message names the model and the reason in one sentence."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"cannot load the model {model!r}: {reason}")


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    attn_implementation: str | None = None,
    clip_settings: Mapping[str, Any] | None = None,
) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load a model and its processor with the installed classes. Remote code is never run.

    A CLIP is loaded as a TS2-Net without new layers, which averages the scores of single frames; a warning is logged.
    Adapters are merged into their base TS2-Net.

    Args:
        name_or_path: Folder or Hub repository of a TS2-Net, of adapters for a TS2-Net, or of a CLIP.
        revision: Branch, tag or commit of the repository. `None` is `main`.
        dtype: Data type of the weights. `"auto"` uses the type of the checkpoint.
        device: Device, such as `"cpu"` or `"cuda:1"`. `None` selects a GPU if there is one.
        attn_implementation: See transformers. `None` uses the default of transformers.
        clip_settings: For a CLIP: configuration fields of a new TS2-Net that is initialised from the CLIP, for
            training. `None` loads a CLIP as described above.

    Returns:
        The model, in evaluation mode on the device, and its processor.

    Raises:
        ModelLoadingError: If the model does not exist, is of another kind or incomplete, or cannot be downloaded.
        TypeError: If one of `clip_settings` is not a field of the configuration.
        ValueError: If the device does not exist.
    """
    name, revision = os.fspath(name_or_path), revision or "main"
    target = find_device(device)
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    adapters = _adapters_of(name, revision)
    if adapters is not None:
        model, processor = _merged(name, revision, adapters, dtype=dtype, **options)
    elif read_model_type(name, revision) not in ("ts2net", None):
        settings = {"as_is": True} if clip_settings is None else clip_settings
        model, processor = _start_from_clip(name, revision, settings, dtype=dtype, **options)
        if clip_settings is None:
            logger.warning(
                f"{name} is a CLIP and sees single frames: nothing in it is trained on video. To train a TS2-Net from "
                f"it: python -m ts2net.training --model {name} --recipe msrvtt (or another)"
            )
    else:
        try:
            model, report = TS2NetModel.from_pretrained(
                name, revision=revision, dtype=dtype, output_loading_info=True, **options
            )
            processor = TS2NetProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
        except Exception as error:  # a broken or hostile file can fail anywhere in a library, with any type of error
            raise ModelLoadingError(name, one_line(error)) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ModelLoadingError(name, f"{len(missing)} of its tensors are missing, {missing[0]!r} for one")
    model.commit = _commit_of(name, revision)
    return model.to(target).eval(), processor


def processor_of_loaded(processor: TS2NetProcessor | None) -> TS2NetProcessor:
    """Check that a processor was passed together with a loaded model, and return the processor.

    Raises:
        ValueError: If `processor` is `None`.
    """
    if processor is None:
        raise ValueError("a loaded model needs its processor: give processor as well")
    return processor


def read_model_type(name_or_path: str, revision: str | None = None) -> str | None:
    """Read the model type of a folder or repository, such as `"ts2net"`. Adapters have the type of their base model.

    Raises:
        ModelLoadingError: If the configuration cannot be read.
    """
    adapters = _adapters_of(name_or_path, revision)
    if adapters is not None:
        name_or_path, revision = adapters.base, adapters.revision
    check_model_source(name_or_path)
    try:
        return PreTrainedConfig.get_config_dict(name_or_path, revision=revision)[0].get("model_type")
    except Exception as error:
        raise ModelLoadingError(name_or_path, one_line(error)) from error


def check_model_source(name_or_path: str) -> None:
    """Check that a string is a model folder or a possible repository id, before any request to the Hub.

    Raises:
        ModelLoadingError: If the string is neither.
    """
    try:
        check_source(name_or_path, "a model's folder")
    except OSError as error:
        raise ModelLoadingError(name_or_path, str(error)) from None
    folder = Path(name_or_path)
    if folder.is_dir() and not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise ModelLoadingError(name_or_path, f"the folder {name_or_path} has no config.json, so it holds no model")


def find_device(device: str | None) -> torch.device:
    """Return the device to compute on.

    Args:
        device: Device, such as `"cpu"` or `"cuda:1"`. `None` selects a GPU if there is one, otherwise the CPU.

    Raises:
        ValueError: If this machine or this build of PyTorch does not have the device.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return accelerator or torch.device("cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be such as 'cpu' or 'cuda:1', got {device!r}") from None
    count = torch.accelerator.device_count() if accelerator is not None else 0
    if wanted.type == "cpu" or (
        accelerator is not None and wanted.type == accelerator.type and (wanted.index or 0) < count
    ):
        return wanted
    present = ["cpu", *(f"{accelerator.type}:{index}" for index in range(count) if accelerator is not None)]
    raise ValueError(f"there is no device {device!r} here: PyTorch finds {', '.join(present)}")


def _commit_of(name: str, revision: str) -> str | None:
    """Return the commit of a repository that has just been loaded, from the Hub cache; `None` for a folder."""
    if os.path.isdir(name):
        return None
    cached = (try_to_load_from_cache(name, file, revision=revision) for file in ("config.json", ADAPTER_CONFIG))
    return next((Path(file).parent.name for file in cached if isinstance(file, str)), None)


def _adapters_of(name: str, revision: str | None) -> AdapterSource | None:
    check_model_source(name)
    try:
        return find_adapters(name, revision)
    except ValueError as error:
        raise ModelLoadingError(name, str(error)) from None


def _merged(name: str, revision: str, adapters: AdapterSource, **options: Any) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load the base model with the adapters merged into its weights, and the processor saved with the adapters."""
    try:
        with name_missing_extra():
            import peft  # noqa: F401  fail before anything is loaded
    except ImportError as error:
        raise ModelLoadingError(name, f"it has adapters, and {one_line(error)}") from error
    base = adapters.base
    if _adapters_of(base, adapters.revision) is not None or read_model_type(base, adapters.revision) != "ts2net":
        raise ModelLoadingError(name, f"its adapters are for {base}, which is no TS2-Net")
    model, _ = load_model(base, revision=adapters.revision, device="cpu", **options)
    try:
        load_adapters(model, name, revision)
        processor = TS2NetProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # any type of error, as in `load_model`
        raise ModelLoadingError(name, one_line(error)) from error
    merge_adapters(model)
    model.name_or_path = ""  # the merged model is not stored anywhere
    return model, processor


def _start_from_clip(
    name: str, revision: str, settings: Mapping[str, Any], **options: Any
) -> tuple[TS2NetModel, TS2NetProcessor]:
    try:
        model = TS2NetModel.from_clip(name, revision=revision, **options, **settings)
        return model, TS2NetProcessor.from_clip(name, model.config, revision=revision, trust_remote_code=False)
    except TypeError:
        raise  # an unknown setting, not an error of the model
    except Exception as error:
        raise ModelLoadingError(name, one_line(error)) from error
