"""Encoding of texts and clips as queries, with the model that the index was made with."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoding.text_tower import TextTower
from .about import About
from .matching import Matching
from .word_matching import matching_of

if TYPE_CHECKING:
    import torch

    from ..modeling_ts2net import TS2NetModel
    from ..processing_ts2net import TS2NetProcessor


class QueryEncoder:
    """Encoder of queries. The model and its parts are loaded at their first use.

    Every method raises `ValueError` if the model can't be loaded or is not the model of the index.

    Args:
        path: Location of the index.
        about: What the index was made with.
        model: A model, or its folder or repository. `None` loads the model that the index was made with.
        processor: Processor of `model`, if that is loaded already.
        device: Device of the model. `None` is a GPU if there is one.
    """

    def __init__(
        self,
        path: str,
        about: About,
        model: "TS2NetModel | str | os.PathLike[str] | None",
        processor: "TS2NetProcessor | None",
        device: str | None,
    ) -> None:
        self._path = path
        self._about = about
        self._model = model
        self._processor = processor
        self._device = device

    @property
    def needs_model(self) -> bool:
        """Whether the model has to be loaded to encode texts. See [`VideoIndex.needs_model`]."""
        return self._text_tower is None

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts one by one, to shape `(Q, D)`, or with word-token interaction `(Q, words, D)`."""
        if self._text_tower is not None:
            return self._text_tower.encode(texts)
        from ..encoding.texts import encode_texts

        embeds: np.ndarray = encode_texts(*self.model_and_processor, list(texts)).numpy()
        return embeds

    def inputs(self, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Encode a preprocessed clip, to shape `(1, D)`. See [`VideoIndex.encode_inputs`]."""
        import torch

        model, _ = self.model_and_processor
        pixels, mask = (inputs[name].to(model.device) for name in ("pixel_values_videos", "padding_mask_videos"))
        with torch.inference_mode():
            return model.get_video_features(pixels, mask).pooler_output.float()

    def video(self, video: Any, start: float | None, end: float | None) -> "torch.Tensor":
        """Encode a clip, or a part of it, to shape `(1, D)`. See [`VideoIndex.search_video`]."""
        _, processor = self.model_and_processor
        moment: dict[str, Any] = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
        return self.inputs(processor(videos=[video], clock="seconds", **moment))  # as for indexed windows

    @cached_property
    def matching(self) -> Matching:
        """Matching of queries with frames. Word-token interaction needs networks of the model."""
        if self._about.matching_kind == "wti":
            return matching_of(self._about, self.model_and_processor[0])
        return Matching.of(self._about)

    @cached_property
    def _text_tower(self) -> TextTower | None:
        """The cached ONNX text tower of the index's model; `None` if there is none or a model was given."""
        return TextTower.of(self._about.fingerprint) if self._model is None else None

    @cached_property
    def model_and_processor(self) -> "tuple[TS2NetModel, TS2NetProcessor]":
        """The model that the index was made with, and its processor."""
        from ..encoding.fingerprint import fingerprint
        from ..hub.loading import load_model, processor_of_loaded
        from ..modeling_ts2net import TS2NetModel

        about = self._about
        if isinstance(self._model, TS2NetModel):
            model, processor = self._model.eval(), processor_of_loaded(self._processor)
            name = model.name_or_path or "the given model"
        else:
            name = about.model if self._model is None else os.fspath(self._model)
            revision = about.revision if self._model is None else None
            model, processor = load_model(name, revision=revision, dtype=about.dtype, device=self._device)
        if fingerprint(model, processor) != about.fingerprint:
            at = f" at {about.revision}" if about.revision else ""
            raise ValueError(
                f"{self._path} was made with {about.model}{at} in {about.dtype}, and {name} in "
                f"{str(model.dtype).removeprefix('torch.')} is another model or has another processor: search with "
                "that one, or index the videos again"
            )
        return model, processor


def checked_embeds(embeds: "np.ndarray | torch.Tensor", about: About) -> np.ndarray:
    """Check query embeddings and convert them to float32: `(Q, D)`, or with word-token interaction `(Q, words, D)`.

    Raises:
        ValueError: If the shape is wrong, a value isn't finite, or a query is all zeros.
    """
    values = embeds.detach().cpu().float().numpy() if hasattr(embeds, "detach") else np.asarray(embeds)
    takes_words = about.matching_kind == "wti"
    if takes_words and values.ndim == 2:
        values = values[:, None]
    if values.ndim != 2 + takes_words or values.shape[-1] != about.dim:
        words = "words, " if takes_words else ""
        raise ValueError(f"embeds must have shape (queries, {words}{about.dim}), got {values.shape}")
    if not np.isfinite(values).all() or not values.reshape(len(values), -1).any(axis=1).all():
        raise ValueError("embeds must be finite numbers, and not all of a query 0")
    return np.ascontiguousarray(values, dtype=np.float32)
