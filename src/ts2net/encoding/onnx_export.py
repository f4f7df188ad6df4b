"""A model to ONNX: a video and a text tower, each one graph for any number of videos, frames, texts and words."""

import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from ..errors import one_line
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .onnx_runtime import FOLDER, LOGIT_SCALE, SUFFIXES, TOWERS, max_frames

# Fields that say nothing of what a model computes.
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
        """Inputs to trace with, and the names and bounds of their first two axes."""
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
        """Inputs to trace with, and the names and bounds of their first two axes."""
        config = self.model.config.text_config
        ids = torch.full((2, 3), config.eos_token_id)
        words = Dim("words", min=1, max=config.max_position_embeddings)
        return (ids, torch.ones_like(ids)), {0: Dim("texts", min=1), 1: words}


def export_onnx(
    model: TS2NetModel, processor: TS2NetProcessor, folder: str | Path, *, int8: bool = False
) -> list[Path]:
    """Write a model's two towers as ONNX files, which [`TS2NetOnnx`] and any other ONNX runtime can run.

    Args:
        model: The model, with float32 weights on the CPU.
        processor: Its processor.
        folder: Where to. `folder/onnx/video_model.onnx` takes `pixel_values_videos (videos, frames, 3, H, W)` and
            `padding_mask_videos (videos, frames)` and gives `pooler_output (videos, D)` and `frame_embeds (videos,
            frames, D)`; `folder/onnx/text_model.onnx` takes `input_ids` and `attention_mask`, both `(texts, words)`,
            and gives `pooler_output (texts, D)`. The configuration and the processor are written beside them. In the
            model's own folder the files go beside its weights.
        int8: Also write `*_quantized.onnx`: int8 weights, and activations quantised as they come.

    Returns:
        The files.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is missing.
        OSError: If the folder can't be written.
        ValueError: If the weights are not float32 on the CPU, the model has word-token interaction, the folder holds
            another model, or PyTorch can't export this model.
    """
    import onnxruntime.quantization  # before minutes of work
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
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=folder) as temporary:
        staged = Path(temporary)
        towers: tuple[_VideoTower | _TextTower, ...] = (_VideoTower(model), _TextTower(model))
        for name, tower in zip(TOWERS, towers, strict=True):
            _export(tower.eval(), staged / f"{name}.onnx")
            if int8:
                # Convolution is left alone: the patch embedding is a small share, and int8 kernels for it are rare.
                onnxruntime.quantization.quantize_dynamic(
                    staged / f"{name}.onnx",
                    staged / f"{name}{SUFFIXES['int8']}.onnx",
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                )
        if not (folder / "config.json").exists():
            model.config.save_pretrained(folder)
            processor.save_pretrained(folder)
        (folder / FOLDER).mkdir(exist_ok=True)
        return [path.replace(folder / FOLDER / path.name) for path in sorted(staged.iterdir())]


def _export(tower: _VideoTower | _TextTower, path: Path) -> None:
    inputs, axes = tower.example()
    # The exporter tells of deprecations within PyTorch and of axes that share a name, as ours are meant to.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            # First on its own, because `torch.onnx.export` would silently fix an axis that cannot be kept free.
            traced = torch.export.export(tower, inputs, dynamic_shapes=(axes, axes))
            program = torch.onnx.export(
                traced, dynamo=True, verbose=False, input_names=tower.inputs, output_names=tower.outputs
            )
        except Exception as error:  # of many kinds, and with pages of advice for whoever wrote the model
            reason = error.__cause__ if error.__cause__ is not None else error
            raise ValueError(f"PyTorch cannot export this model to ONNX: {one_line(reason)}") from error
    assert program is not None
    program.model.metadata_props[LOGIT_SCALE] = repr(tower.model.logit_scale.exp().item())
    program.save(path)


def _is_model_of(folder: Path, model: TS2NetModel) -> bool:
    """Whether a folder's configuration is the model's."""
    with suppress(Exception):
        return _facts(type(model.config).from_pretrained(folder).to_dict()) == _facts(model.config.to_dict())
    return False


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what says nothing of the computation, in the configurations within it too."""
    return {
        name: _facts(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in _OTHER
    }
