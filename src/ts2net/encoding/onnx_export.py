"""Export of a model to ONNX: a video and a text tower, as graphs for any number of videos, frames, texts and words."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from ..errors import one_line
from ..files import write_errors_named
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .onnx_model import num_trunk_layers
from .onnx_runtime import FOLDER, LOGIT_SCALE, SUFFIXES, TOWERS, max_frames

# Fields of a configuration that do not affect the computation.
_OTHER = {"_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version"}


class _VideoTower(nn.Module):
    inputs = ("pixel_values_videos", "padding_mask_videos")
    outputs = ("pooler_output", "frame_embeds")

    def __init__(self, model: TS2NetModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values_videos: torch.Tensor, padding_mask_videos: torch.Tensor) -> Sequence[torch.Tensor]:
        features = self.model.get_video_features(pixel_values_videos, padding_mask_videos)
        return features.pooler_output, features.frame_embeds

    def example(self) -> tuple[tuple[torch.Tensor, ...], dict[int, Dim]]:
        """Return inputs to trace with, and the names and bounds of their first two axes."""
        config = self.model.config
        size = config.vision_config.image_size
        frames = Dim("frames", min=1, max=max_frames(config))
        inputs = torch.zeros(2, 2, 3, size, size), torch.ones(2, 2, dtype=torch.bool)
        return inputs, {0: Dim("videos", min=1), 1: frames}


class _TextTower(nn.Module):
    inputs = ("input_ids", "attention_mask")
    outputs = ("pooler_output",)

    def __init__(self, model: TS2NetModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Sequence[torch.Tensor]:
        return (self.model.get_text_features(input_ids, attention_mask).pooler_output,)

    def example(self) -> tuple[tuple[torch.Tensor, ...], dict[int, Dim]]:
        """Return inputs to trace with, and the names and bounds of their first two axes."""
        config = self.model.config.text_config
        ids = torch.full((2, 3), config.eos_token_id)
        words = Dim("words", min=1, max=config.max_position_embeddings)
        return (ids, torch.ones_like(ids)), {0: Dim("texts", min=1), 1: words}


class _Trunk(nn.Module):
    """The embeddings of single frames, and the layers before the first shift layer."""

    inputs = ("pixel_values",)
    outputs = ("tokens",)

    def __init__(self, model: TS2NetModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> Sequence[torch.Tensor]:
        vision = self.model.vision_model
        tokens = vision.pre_layrnorm(vision.embeddings(pixel_values))
        for layer in list(vision.encoder.layers)[: num_trunk_layers(self.model)]:
            tokens = layer(tokens, num_frames=1)
        return (tokens,)

    def example(self) -> tuple[tuple[torch.Tensor, ...], dict[int, Dim]]:
        """Return inputs to trace with, and the name and bounds of their first axis."""
        size = self.model.config.vision_config.image_size
        return (torch.zeros(2, 3, size, size),), {0: Dim("frames", min=1)}


def export_trunk(model: TS2NetModel, path: Path, *, int8: bool) -> None:
    """Export the layers before the first shift layer: `pixel_values (frames, 3, H, W)` to `tokens (frames, L, C)`.

    Args:
        model: The model, with float32 weights on the CPU.
        path: The file.
        int8: Whether to quantise weight matrices to int8, and activations dynamically.

    Raises:
        ValueError: If PyTorch can't export this model.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        exact = Path(temporary) / "trunk.onnx" if int8 else path
        _export(_Trunk(model).eval(), exact)
        if int8:
            _quantize(exact, path)


def export_text(model: TS2NetModel, path: Path) -> None:
    """Export the text tower: `input_ids` and `attention_mask (texts, words)` to `pooler_output (texts, D)`.

    Args:
        model: The model, with float32 weights on the CPU.
        path: The file.

    Raises:
        ValueError: If PyTorch can't export this model.
    """
    _export(_TextTower(model).eval(), path)


def export_onnx(
    model: TS2NetModel, processor: TS2NetProcessor, folder: str | Path, *, int8: bool = False
) -> list[Path]:
    """Export a model's two towers as ONNX files, which [`TS2NetOnnx`] and any other ONNX runtime can run.

    Args:
        model: The model, with float32 weights on the CPU.
        processor: The model's processor.
        folder: The output folder, which may be the model's own folder. `folder/onnx/video_model.onnx` maps
            `pixel_values_videos (videos, frames, 3, H, W)` and `padding_mask_videos (videos, frames)` to
            `pooler_output (videos, D)` and `frame_embeds (videos, frames, D)`. `folder/onnx/text_model.onnx` maps
            `input_ids` and `attention_mask`, both `(texts, words)`, to `pooler_output (texts, D)`. The configuration
            and the processor are written to `folder` if it has no configuration.
        int8: Also write `*_quantized.onnx`, with int8 weights and dynamically quantised activations.

    Returns:
        The files.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is missing.
        OSError: If the folder can't be written.
        ValueError: If the weights are not float32 on the CPU, the model has word-token interaction, the folder holds
            another model, or PyTorch can't export the model.
    """
    import onnxscript  # noqa: F401

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cannot write ONNX files in {folder}: it is a file, and a folder is needed")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(
            f"expected float32 weights on the CPU, got {str(model.dtype).removeprefix('torch.')} on {model.device}: "
            f"load the model with dtype=torch.float32"
        )
    if model.word_interaction is not None:
        raise ValueError(
            "a model with matching_kind='wti' cannot be exported to ONNX: scores need its words and the weights of "
            "words and frames, which the two towers don't give"
        )
    if (folder / "config.json").exists() and not _is_model_of(folder, model):
        raise ValueError(f"the folder {folder} holds another model: give a new folder, or the model's own")
    folder.mkdir(parents=True, exist_ok=True)
    with write_errors_named(folder), tempfile.TemporaryDirectory(prefix=".onnx-", dir=folder) as temporary:
        staged = Path(temporary)
        towers: tuple[_VideoTower | _TextTower, ...] = (_VideoTower(model), _TextTower(model))
        for name, tower in zip(TOWERS, towers, strict=True):
            _export(tower.eval(), staged / f"{name}.onnx")
            if int8:
                _quantize(staged / f"{name}.onnx", staged / f"{name}{SUFFIXES['int8']}.onnx")
        if not (folder / "config.json").exists():
            model.config.save_pretrained(folder)
            processor.save_pretrained(folder)
        (folder / FOLDER).mkdir(exist_ok=True)
        return [path.replace(folder / FOLDER / path.name) for path in sorted(staged.iterdir())]


def _quantize(path: Path, quantized: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    with _hushed():
        # Not convolution, because the patch embedding is a small share and int8 kernels for it are rare.
        quantize_dynamic(path, quantized, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)


def _export(tower: _VideoTower | _TextTower | _Trunk, path: Path) -> None:
    inputs, axes = tower.example()
    with _hushed(), torch.no_grad():
        try:
            # A separate first step, because `torch.onnx.export` silently fixes an axis that cannot be dynamic.
            traced = torch.export.export(tower, inputs, dynamic_shapes=(axes,) * len(inputs))
            program = torch.onnx.export(
                traced, dynamo=True, verbose=False, input_names=tower.inputs, output_names=tower.outputs
            )
        except Exception as error:  # of many types, with pages of advice for the model's author
            reason = error.__cause__ if error.__cause__ is not None else error
            raise ValueError(f"PyTorch cannot export this model to ONNX: {one_line(reason)}") from error
    assert program is not None
    program.model.metadata_props[LOGIT_SCALE] = repr(tower.model.logit_scale.exp().item())
    program.save(path)


@contextmanager
def _hushed() -> Iterator[None]:
    """Silence the exporter and the quantiser.

    They report deprecations within PyTorch, missing libraries that are not needed, axes that share a name on purpose,
    and each step in traces of megabytes.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _is_model_of(folder: Path, model: TS2NetModel) -> bool:
    """Whether a folder's configuration equals the model's."""
    with suppress(Exception):
        return _facts(type(model.config).from_pretrained(folder).to_dict()) == _facts(model.config.to_dict())
    return False


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields that do not affect the computation from a configuration, including nested ones."""
    return {
        name: _facts(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in _OTHER
    }
