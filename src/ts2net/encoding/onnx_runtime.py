"""Model on ONNX Runtime, from the files that [`export_onnx`] writes. It uses NumPy and does not need PyTorch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from huggingface_hub import snapshot_download

from ..configuration_ts2net import TS2NetConfig
from ..errors import one_line

if TYPE_CHECKING:
    import onnxruntime

# Named as in transformers.js and optimum: a subfolder beside the weights, and a suffix for int8.
FOLDER = "onnx"
TOWERS = ("video_model", "text_model")
SUFFIXES = {"float32": "", "int8": "_quantized"}
LOGIT_SCALE = "logit_scale"  # in the metadata of both towers: the factor of cosines
_CHUNK_ELEMENTS = 2**24  # number of cosines in memory at a time


class OnnxVideoFeatures(NamedTuple):
    """Output of [`TS2NetOnnx.get_video_features`].

    Args:
        pooler_output: One vector per video, `(B, D)`: the mean over real frames of the normalised frame embeddings.
        frame_embeds: Frame embeddings `(B, T, D)`, not normalised.
    """

    pooler_output: np.ndarray
    frame_embeds: np.ndarray


class OnnxTextFeatures(NamedTuple):
    """Output of [`TS2NetOnnx.get_text_features`].

    Args:
        pooler_output: Text embeddings `(Q, D)`, not normalised.
    """

    pooler_output: np.ndarray


class TS2NetOnnx:
    """A TS2-Net on ONNX Runtime. Inputs are NumPy arrays or PyTorch tensors on the CPU, outputs are NumPy arrays."""

    def __init__(
        self, config: TS2NetConfig, video: "onnxruntime.InferenceSession", text: "onnxruntime.InferenceSession"
    ) -> None:
        self.config = config
        self._video = video
        self._text = text
        self._logit_scale = np.float32(text.get_modelmeta().custom_metadata_map[LOGIT_SCALE])

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        precision: Literal["float32", "int8"] = "float32",
        revision: str | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> "TS2NetOnnx":
        """Open an exported model.

        Args:
            name_or_path: A folder, or a repository on the Hub, that contains `onnx/`.
            precision: `"int8"` opens the quantised files.
            revision: Branch, tag or commit of the repository. `None` is `main`.
            providers: Execution providers of ONNX Runtime, in order of preference.

        Raises:
            FileNotFoundError: If there are no ONNX files of this precision.
            ImportError: If onnxruntime is missing.
            ValueError: If `precision` is unknown, or a file can't be opened.
        """
        import onnxruntime

        if precision not in SUFFIXES:
            raise ValueError(f"precision must be one of {', '.join(SUFFIXES)}, got {precision!r}")
        names = [f"{FOLDER}/{tower}{SUFFIXES[precision]}.onnx" for tower in TOWERS]
        folder = Path(name_or_path)
        if not folder.is_dir():
            files = ["config.json", *names, *(f"{name}.data" for name in names)]
            folder = Path(snapshot_download(os.fspath(name_or_path), revision=revision, allow_patterns=files))
        for name in names:
            if not (folder / name).is_file():
                option = " --int8" if precision == "int8" else ""
                raise FileNotFoundError(
                    f"{name_or_path} has no {name}: export it with `ts2net export {name_or_path} FOLDER{option}`"
                )
        sessions = []
        for name in names:
            try:
                sessions.append(onnxruntime.InferenceSession(folder / name, providers=list(providers)))
            except Exception as error:  # each kind of damage has its own class
                raise ValueError(f"cannot open {folder / name}: {one_line(error)}") from error
        return cls(TS2NetConfig.from_pretrained(folder), *sessions)

    def get_video_features(
        self, pixel_values_videos: Any, padding_mask_videos: Any | None = None
    ) -> OnnxVideoFeatures:
        """Encode videos.

        Args:
            pixel_values_videos: Normalised frames of shape `(B, T, 3, H, W)`.
            padding_mask_videos: True (or 1) for real frames, of shape `(B, T)`. `None` means that all are real.

        Raises:
            ValueError: If a shape is wrong or there are more frames than positions of the temporal encoder.
        """
        pixels = np.asarray(pixel_values_videos, dtype=np.float32)
        size = self.config.vision_config.image_size
        if pixels.ndim != 5 or pixels.shape[2:] != (3, size, size):
            raise ValueError(
                f"pixel_values_videos must have shape (videos, frames, 3, {size}, {size}), got {pixels.shape}"
            )
        most = max_frames(self.config)
        if most is not None and pixels.shape[1] > most:
            raise ValueError(f"the model takes at most {most} frames a video, got {pixels.shape[1]}")
        inputs = {"pixel_values_videos": pixels, "padding_mask_videos": _frame_mask(pixels, padding_mask_videos)}
        return OnnxVideoFeatures(*self._video.run(OnnxVideoFeatures._fields, inputs))

    def get_text_features(self, input_ids: Any, attention_mask: Any | None = None) -> OnnxTextFeatures:
        """Encode texts.

        Args:
            input_ids: Token ids of shape `(Q, words)`.
            attention_mask: 1 for real tokens, of shape `(Q, words)`. `None` means that all are real.

        Raises:
            ValueError: If a shape is wrong or there are more words than positions of the text encoder.
        """
        ids = np.asarray(input_ids, dtype=np.int64)
        mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask, dtype=np.int64)
        most = self.config.text_config.max_position_embeddings
        if ids.ndim != 2 or mask.shape != ids.shape or not 0 < ids.shape[1] <= most:
            raise ValueError(
                f"input_ids and attention_mask must have shape (texts, words) with at most {most} words, "
                f"got {ids.shape} and {mask.shape}"
            )
        return OnnxTextFeatures(*self._text.run(OnnxTextFeatures._fields, {"input_ids": ids, "attention_mask": mask}))

    def similarity(self, text_embeds: Any, frame_embeds: Any, padding_mask_videos: Any | None = None) -> np.ndarray:
        """Compute the similarity of texts and videos (paper, section 3.5).

        Args:
            text_embeds: Text embeddings of shape `(Q, D)`, normalised or not.
            frame_embeds: Frame embeddings of shape `(B, T, D)`, normalised or not.
            padding_mask_videos: True (or 1) for real frames, of shape `(B, T)`. `None` means that all are real.

        Returns:
            Similarities of shape `(Q, B)`, times the model's `exp(logit_scale)`, in float32.
        """
        texts = _units(np.asarray(text_embeds, dtype=np.float32))
        frames = _units(np.asarray(frame_embeds, dtype=np.float32))
        mask = _frame_mask(frames, padding_mask_videos)
        if self.config.padding_mode == "released":  # see TS2NetModel.similarity
            mask = mask[:, np.arange(mask.shape[1]) * self.config.tokens_per_frame % mask.shape[1]]
        rows = max(1, _CHUNK_ELEMENTS // max(1, mask.size))
        chunks = [self._match(texts[first : first + rows], frames, mask) for first in range(0, len(texts), rows)]
        return self._logit_scale * np.concatenate(chunks) if chunks else np.empty((0, len(frames)), np.float32)

    def _match(self, texts: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
        cosines = np.einsum("qd,btd->qbt", texts, frames, optimize=True) * mask
        logits = np.zeros_like(cosines)
        if self.config.matching_kind == "weighted":
            norms = np.linalg.norm(cosines, axis=-1, keepdims=True)
            logits = self.config.matching_temperature * cosines / np.maximum(norms, 1e-12)
        weights = (
            np.exp(logits - logits.max(axis=-1, keepdims=True)) * mask
        )  # a video without a real frame has score 0
        return (weights * cosines).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-12)


def max_frames(config: TS2NetConfig) -> int | None:
    """Return the maximum number of frames of a video, which the temporal encoder limits; `None` if unlimited."""
    positions = config.temporal_num_positions
    return None if positions is None or not config.temporal_num_layers else positions // config.tokens_per_frame


def _units(embeds: np.ndarray) -> np.ndarray:
    return embeds / np.maximum(np.linalg.norm(embeds, axis=-1, keepdims=True), 1e-12)


def _frame_mask(videos: np.ndarray, padding_mask_videos: Any | None) -> np.ndarray:
    if padding_mask_videos is None:
        return np.ones(videos.shape[:2], dtype=bool)
    mask = np.asarray(padding_mask_videos, dtype=bool)
    if mask.shape != videos.shape[:2]:
        raise ValueError(
            f"padding_mask_videos must have shape (videos, frames) = {videos.shape[:2]}, got {mask.shape}"
        )
    return mask
