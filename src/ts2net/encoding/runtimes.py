"""Runtime of a model: PyTorch, or ONNX Runtime for the text tower and the layers on single frames.

ONNX Runtime was chosen because it runs on every CPU that PyTorch supports, its int8 was the fastest measured, and the
export needs only PyTorch's own libraries; see docs/speed.md.
"""

import logging
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from ..files import write_errors_named
from ..hub.loading import load_model
from ..lazy import name_missing_extra
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .fingerprint import fingerprint
from .onnx_cache import TEXT, TOKENIZER, TRUNK, onnx_folder
from .onnx_model import OnnxBackedModel, OnnxGraph, num_trunk_layers
from .text_tower import tokenizer_settings

logger = logging.getLogger(__name__)

RuntimeName = Literal["torch", "onnx"]
Precision = Literal["float32", "int8"]

_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_SMALL = 20_000_000  # number of weights of a trunk below which the export takes more time than it saves


def check_runtime(runtime: str | None, precision: str | None) -> None:
    """Check the requested runtime and precision, before a model is loaded.

    Raises:
        ImportError: If ONNX Runtime is requested and not installed. The message names the extra.
        ValueError: If a name is unknown, or int8 is requested for PyTorch.
    """
    for name, value, literal in (("runtime", runtime, RuntimeName), ("precision", precision, Precision)):
        names = literal.__args__  # type: ignore[attr-defined]
        if value is not None and value not in names:
            raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")
    if precision == "int8" and runtime == "torch":
        raise ValueError("precision='int8' is for runtime='onnx', got runtime='torch'")
    if runtime == "onnx" or precision == "int8":
        with name_missing_extra():
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401


def load_on_runtime(
    name_or_path: str | os.PathLike[str],
    *,
    runtime: RuntimeName | None = "torch",
    precision: Precision | None = None,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load a model and its processor, ready to encode.

    The ONNX files are exported once, which takes about ten seconds for a ViT-B/32, and cached; see `onnx_cache`.

    Args:
        name_or_path: Folder or repository of the model; see [`load_model`].
        runtime: `"torch"`, or `"onnx"`, which needs a CPU and weights in float32. `None` uses `"onnx"` for int8, or if
            these conditions hold, its libraries are installed and the model is not small; otherwise `"torch"`.
        precision: `"int8"` runs the layers on single frames with int8 matrices, on ONNX Runtime. `None` is
            `"float32"`, which is as precise as the weights.
        revision: Revision of the repository; see [`load_model`].
        dtype: Type of the weights; see [`load_model`].
        device: Device of the model; see [`load_model`].

    Raises:
        ImportError: If ONNX Runtime is requested and not installed.
        ModelLoadingError: If the model can't be loaded.
        OSError: If the ONNX files can't be written.
        ValueError: If a name is unknown, the model can't be exported, or ONNX Runtime is requested for a model that is
            not in float32 on the CPU.
    """
    check_runtime(runtime, precision)
    model, processor = load_model(name_or_path, revision=revision, dtype=dtype, device=device)
    if runtime == "torch" or (runtime is None and precision != "int8" and not _is_faster_on_onnx(model)):
        return model, processor
    return _on_onnx(model, processor, precision or "float32"), processor


def runtime_of(model: TS2NetModel) -> RuntimeName:
    """Return the runtime of a loaded model."""
    return "onnx" if isinstance(model, OnnxBackedModel) else "torch"


def precision_of(model: TS2NetModel) -> str:
    """Return the precision of a loaded model: `"int8"`, or the type of its weights, such as `"float32"`."""
    if isinstance(model, OnnxBackedModel):
        return model.precision
    return str(model.dtype).removeprefix("torch.")


def _is_faster_on_onnx(model: TS2NetModel) -> bool:
    """Whether ONNX Runtime supports a model, and saves more time than the export takes."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or not all(map(find_spec, _LIBRARIES)):
        return False
    layers = list(model.vision_model.encoder.layers)[: num_trunk_layers(model)]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters()) >= _SMALL


def _on_onnx(model: TS2NetModel, processor: TS2NetProcessor, precision: Precision) -> OnnxBackedModel:
    if model.device.type != "cpu" or model.dtype != torch.float32:
        dtype = str(model.dtype).removeprefix("torch.")
        raise ValueError(
            f"ONNX Runtime computes on the CPU from weights in float32, and the model is in {dtype} on "
            f"{model.device}: choose device='cpu' and dtype='float32', or runtime='torch'"
        )
    model_fingerprint = fingerprint(model, processor)
    folder = onnx_folder(model_fingerprint)
    _export_missing(model, processor, folder, precision)
    trunk, text = OnnxGraph(folder / TRUNK[precision]), OnnxGraph(folder / TEXT)
    return OnnxBackedModel.take_over(model, trunk, text, fingerprint=model_fingerprint, precision=precision)


def _export_missing(model: TS2NetModel, processor: TS2NetProcessor, folder: Path, precision: Precision) -> None:
    """Export the files that are missing in a model's folder."""
    if all((folder / name).exists() for name in (TRUNK[precision], TEXT)):
        return
    from .onnx_export import export_text, export_trunk

    logger.warning(f"exporting {model.name_or_path or 'the model'} to ONNX, once, into {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with write_errors_named(folder), tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as temporary:
        staged = Path(temporary)
        if not (folder / TEXT).exists():
            export_text(model, staged / TEXT)
            settings = tokenizer_settings(processor)
            if settings is not None:
                (staged / TOKENIZER).write_text(settings, encoding="utf-8")
        if not (folder / TRUNK[precision]).exists():
            export_trunk(model, staged / TRUNK[precision], int8=precision == "int8")
        for path in sorted(staged.iterdir(), reverse=True):  # a graph after its weights, as it is checked for
            path.replace(folder / path.name)
