"""Encoding of overlapping windows of videos to frame embeddings, without computing the same value twice.

Layers before the first shift layer see single frames. The output of a shift layer for a frame depends only on that
frame and its two neighbours. So windows share the value of a frame at a layer if the frame and its neighbourhood are
the same. Each value is computed once and looked up by its inputs. With windows of 12 frames every 6 frames and two
shift layers at the top of 12 layers, a window costs 78 layer-frames instead of 144. Selection and the temporal encoder
see whole windows and run for each window.
"""

import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from ..modeling_ts2net import TS2NetModel, TS2NetVisionLayer
from ..processing_ts2net import TS2NetProcessor

_FRAMES_A_CHUNK = 192  # frames that go through a layer at a time
_VIDEOS_KEPT = 16  # videos whose values of the last window are kept for the next window

Neighbours = tuple[int | None, int, int | None]
"""Numbers of the values that a shift layer reads for a frame: of the frame before, the frame, and the frame after."""


class FrameWindow(Protocol):
    """Successive frames of a video."""

    @property
    def video_id(self) -> str:
        """Id of the video."""

    @property
    def frame_numbers(self) -> Sequence[int]:
        """Number of each of the `T` frames in the video. Frames of equal numbers have equal pixels."""

    @property
    def pixels(self) -> np.ndarray:
        """The frames, uint8 of shape `(T, 3, H, W)`, at the model's input size."""


class VideoEncoder:
    """Encode windows of videos.

    The encoder caches the values of the last window of each video, so pass the windows of a video in order. The cache
    is limited to the 16 most recent videos.

    Args:
        model: The model, in evaluation mode, on its device.
        processor: The model's processor.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor) -> None:
        self.model = model
        self.processor = processor
        layers = list(model.vision_model.encoder.layers)
        shifts = [number for number, layer in enumerate(layers) if layer.shift is not None]
        self._trunk = layers[: shifts[0]] if shifts else layers
        self._blocks = [layers[first:end] for first, end in itertools.pairwise([*shifts, len(layers)])]
        self._values = [_Values() for _ in range(1 + len(self._blocks))]  # after the trunk and after each block
        self._last_windows: OrderedDict[str, list[list[Hashable]]] = OrderedDict()  # keys of the values, by video

    @torch.inference_mode()
    def encode(self, windows: Sequence[FrameWindow]) -> list[torch.Tensor]:
        """Encode windows, of any videos and any lengths.

        Returns:
            Frame embeddings `(T, D)` of each window, not normalised. Up to rounding they equal the output of
            [`TS2NetModel.get_video_features`] for the window.
        """
        pixels = {
            (window.video_id, number): frame
            for window in windows
            for number, frame in zip(window.frame_numbers, window.pixels, strict=True)
        }
        keys: list[list[Hashable]] = [[(window.video_id, n) for n in window.frame_numbers] for window in windows]
        keys_used = [keys]
        self._values[0].compute(itertools.chain(*keys), lambda new: self._run_trunk([pixels[key] for key in new]))
        numbers = [self._values[0].numbers(key) for key in keys]
        for index in range(len(self._blocks)):
            keys = [_neighbours(window) for window in numbers]
            keys_used.append(keys)
            self._values[index + 1].compute(itertools.chain(*keys), partial(self._run_block, index))
            numbers = [self._values[index + 1].numbers(key) for key in keys]
        embeds = self._finish(numbers)
        self._forget_all_but_last_windows(windows, keys_used)
        return embeds

    def _run_trunk(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Run the layers before the first shift layer on frames `(3, H, W)`; returns tokens `(frames, L, C)`."""
        vision = self.model.vision_model
        inputs = self.processor.video_processor(
            [torch.from_numpy(np.stack(frames))],
            device=self.model.device,
            input_data_format="channels_first",
            do_sample_frames=False,
            do_resize=False,
            do_center_crop=False,
            pad_to="longest",
        )
        pixels = inputs["pixel_values_videos"][0].to(self.model.device, self.model.dtype)
        tokens = vision.pre_layrnorm(vision.embeddings(pixels))
        for layer in self._trunk:
            tokens = layer(tokens, num_frames=1)
        return tokens if self._blocks else self._project(tokens)

    def _run_block(self, index: int, frames: Sequence[Neighbours]) -> torch.Tensor:
        """Run a shift layer and the layers up to the next shift layer; returns tokens `(frames, L, C)`."""
        inputs = sorted({number for triple in frames for number in triple if number is not None})
        tokens = self._values[index].stacked(inputs)  # (inputs, L, C)
        row = {number: row for row, number in enumerate(inputs)}
        # A missing neighbour is replaced by the frame itself, and masked.
        rows = [
            [row[current if number is None else number] for number in (before, current, after)]
            for before, current, after in frames
        ]
        is_real = [[number is not None for number in triple] for triple in frames]
        layer, *others = self._blocks[index]
        tokens = _run_shift_layer(
            layer, tokens, torch.tensor(rows, device=tokens.device), torch.tensor(is_real, device=tokens.device)
        )
        for layer in others:
            tokens = layer(tokens, num_frames=1)
        return tokens if index + 1 < len(self._blocks) else self._project(tokens)

    def _project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Project tokens `(frames, L, C)` of the last layer to the space of text embeddings, `(frames, L, D)`."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(tokens))

    def _finish(self, windows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Run selection and temporal encoder on windows, which are given as the numbers of their projected tokens."""
        model = self.model
        embeds: dict[int, torch.Tensor] = {}
        indices_by_length: defaultdict[int, list[int]] = defaultdict(list)
        for index, window in enumerate(windows):
            indices_by_length[len(window)].append(index)
        for indices in indices_by_length.values():
            tokens = torch.stack([self._values[-1].stacked(windows[index]) for index in indices])  # (n, T, L, D)
            kept, _, _ = model.token_selector(tokens)  # (n, T, K + 1, D)
            frames = kept[:, :, 0]  # (n, T, D)
            if model.temporal_encoder is not None:
                temporal = model.temporal_encoder(kept.flatten(1, 2), return_dict=True)
                frames = temporal.last_hidden_state[:, :: kept.shape[2]]
            embeds |= dict(zip(indices, frames, strict=True))
        return [embeds[index] for index in range(len(windows))]

    def _forget_all_but_last_windows(self, windows: Sequence[FrameWindow], keys: Sequence[Sequence[list]]) -> None:
        """Drop all values except those of the last window of each of the most recent videos.

        Args:
            windows: The windows of a batch.
            keys: For each stage the keys of the values of each window.
        """
        for index, window in enumerate(windows):
            self._last_windows[window.video_id] = [stage[index] for stage in keys]
            self._last_windows.move_to_end(window.video_id)
        while len(self._last_windows) > _VIDEOS_KEPT:
            self._last_windows.popitem(last=False)
        for stage, values in enumerate(self._values):
            values.keep_only(key for kept in self._last_windows.values() for key in kept[stage])


class _Values:
    """Cached values of one stage. Each has a number, and a key that identifies its inputs."""

    def __init__(self) -> None:
        self._num_computed = 0
        self._numbers: dict[Hashable, int] = {}
        self._tokens: dict[int, torch.Tensor] = {}

    def compute(self, keys: Iterable[Hashable], run: Callable[[list[Any]], torch.Tensor]) -> None:
        """Compute the missing values among these keys. `run` maps a list of keys to their values."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._numbers]
        for first in range(0, len(missing), _FRAMES_A_CHUNK):
            chunk = missing[first : first + _FRAMES_A_CHUNK]
            for key, tokens in zip(chunk, run(chunk), strict=True):
                self._numbers[key] = self._num_computed
                self._tokens[self._num_computed] = tokens
                self._num_computed += 1

    def numbers(self, keys: Iterable[Hashable]) -> list[int]:
        """Return the numbers of the values of these keys."""
        return [self._numbers[key] for key in keys]

    def stacked(self, numbers: Iterable[int]) -> torch.Tensor:
        """Return the values of these numbers, of shape `(values, L, C)`."""
        return torch.stack([self._tokens[number] for number in numbers])

    def keep_only(self, keys: Iterable[Hashable]) -> None:
        """Drop the values of all other keys."""
        self._numbers = {key: self._numbers[key] for key in keys}
        # Clone, because a view of one row would keep the memory of the whole chunk.
        self._tokens = {number: self._tokens[number].clone() for number in self._numbers.values()}


def _neighbours(numbers: Sequence[int]) -> list[Hashable]:
    """Return the [`Neighbours`] of each value of a window."""
    padded = [None, *numbers, None]
    return list(zip(padded, numbers, padded[2:], strict=False))


def _run_shift_layer(
    layer: TS2NetVisionLayer, tokens: torch.Tensor, rows: torch.Tensor, is_real: torch.Tensor
) -> torch.Tensor:
    """Apply a shift layer to frames with their neighbours, as the layer itself does to whole videos.

    Args:
        layer: The layer.
        tokens: Inputs of the layer, of shape `(inputs, L, C)`.
        rows: int64 of shape `(frames, 3)`: index of the input before each frame, of the frame, and after the frame.
        is_real: Boolean of shape `(frames, 3)`: False for a missing neighbour.

    Returns:
        Tokens of shape `(frames, L, C)`.
    """
    assert layer.shift is not None
    normed = layer.layer_norm1(tokens)
    shifted = layer.shift(normed[rows], is_real)[:, 1]
    attended, _ = layer.self_attn(hidden_states=shifted, attention_mask=None)
    hidden_states = tokens[rows[:, 1]] + attended
    return hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
