"""Model on ONNX Runtime, which computes the text tower and the layers on single frames; PyTorch computes the rest.

The layers before the first shift layer, the trunk, are a plain transformer on single frames and nearly all of the
computation. The later layers depend on the kinds of shift, selection and padding, and remain in PyTorch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import one_line
from ..files import write_whole
from ..lazy import name_missing_extra
from ..modeling_ts2net import TS2NetModel, TS2NetTextOutput, TS2NetVideoOutput


class OnnxGraph:
    """An ONNX file, ready to run on the CPU with as many threads as PyTorch uses.

    A pickle contains the content of the file, so that it can be loaded on another machine.

    Args:
        path: The file.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        with name_missing_extra():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Spinning threads would take the cores from processes that decode videos.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # each kind of damage has its own class
            raise ValueError(f"cannot open {path}: {one_line(error)}") from error
        self._path = path

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Run the graph, and return its first output, on the CPU."""
        arrays = {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in inputs.items()}
        return torch.from_numpy(self._session.run(None, arrays)[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxGraph":
        return self  # a graph has no state

    def __reduce__(self) -> tuple[Callable[..., "OnnxGraph"], tuple[Path, Mapping[str, bytes]]]:
        # Large graphs store their weights in a second file.
        files = [self._path, self._path.with_name(f"{self._path.name}.data")]
        return _restored, (self._path, {file.name: file.read_bytes() for file in files if file.exists()})


def _restored(path: Path, files: Mapping[str, bytes]) -> OnnxGraph:
    if not path.exists():  # on another machine
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, content in sorted(files.items(), reverse=True):  # the graph last, as it is checked for
            write_whole(path.with_name(name), content)
    return OnnxGraph(path)


class OnnxTrunk(nn.Module):
    """Replacement for the embeddings of frames and all layers before the first shift layer.

    Args:
        graph: Graph that maps `pixel_values (frames, 3, H, W)` to tokens `(frames, L, C)`, both float32.
        image_size: Height and width of a frame.
    """

    def __init__(self, graph: OnnxGraph, image_size: int) -> None:
        super().__init__()
        self.graph = graph
        self.image_size = image_size

    def forward(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False) -> torch.Tensor:
        """Compute tokens `(frames, L, C)` of normalised frames `(frames, 3, H, W)`.

        Raises:
            ValueError: If the frames have another size than the model's.
        """
        if pixel_values.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"expected frames of shape (3, {self.image_size}, {self.image_size}), got "
                f"{(*pixel_values.shape[1:],)}: ONNX Runtime takes the model's own size alone"
            )
        return self.graph(pixel_values=pixel_values)


class OnnxBackedModel(TS2NetModel):
    """A TS2-Net with its trunk and its text tower on ONNX Runtime, for inference on the CPU.

    Create it with `runtimes.load_on_runtime`. It has no weights of the parts that ONNX Runtime computes, so it can't
    be trained or saved.

    Attributes:
        fingerprint: Fingerprint of the original model.
        precision: Precision of the trunk, `"float32"` or `"int8"`.
    """

    fingerprint: str
    precision: str
    _text_graph: OnnxGraph

    @classmethod
    def take_over(
        cls, model: TS2NetModel, trunk: OnnxGraph, text: OnnxGraph, *, fingerprint: str, precision: str
    ) -> "OnnxBackedModel":
        """Convert a model to this class, in place.

        Args:
            model: The model, in float32 on the CPU.
            trunk: Graph of the trunk.
            text: Graph that maps `input_ids` and `attention_mask (Q, words)` to text embeddings `(Q, D)`.
            fingerprint: Fingerprint of the model.
            precision: Precision of the trunk.
        """
        model.__class__ = cls
        assert isinstance(model, cls)
        model.fingerprint, model.precision, model._text_graph = fingerprint, precision, text
        vision = model.vision_model
        vision.embeddings = OnnxTrunk(trunk, model.config.vision_config.image_size)
        vision.pre_layrnorm = nn.Identity()
        vision.encoder.layers = vision.encoder.layers[num_trunk_layers(model) :]
        del model.text_model, model.text_projection
        return model

    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TS2NetTextOutput:
        """Encode texts; see [`TS2NetModel.get_text_features`]. The output has a `pooler_output` only.

        Raises:
            ValueError: If other arguments than the texts and their masks are given.
        """
        if position_ids is not None or any(kwargs[name] for name in kwargs if name != "return_dict"):
            raise ValueError("on ONNX Runtime texts are encoded from input_ids and attention_mask alone")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embeds = self._text_graph(input_ids=input_ids.long(), attention_mask=mask.long())
        return TS2NetTextOutput(pooler_output=embeds)

    def get_video_features(self, *args: Any, **kwargs: Any) -> TS2NetVideoOutput:
        """Encode videos; see [`TS2NetModel.get_video_features`].

        Raises:
            ValueError: As in the base class, or if hidden states or attentions are requested, or hidden states given.
        """
        if any(kwargs.get(name) for name in ("output_hidden_states", "output_attentions", "first_vision_layer")):
            raise ValueError("on ONNX Runtime there are no hidden states and no attentions")
        return super().get_video_features(*args, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to save.

        Raises:
            ValueError: Always.
        """
        raise ValueError("on ONNX Runtime a model has not all of its weights, so it can't be saved")


def num_trunk_layers(model: TS2NetModel) -> int:
    """Return the number of layers before the first shift layer."""
    layers = list(model.vision_model.encoder.layers)
    return next((number for number, layer in enumerate(layers) if layer.shift is not None), len(layers))
