"""Encoding of overlapping windows with shared frames: the embeddings of separate encoding, for less computation."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from support.tiny_models import tiny_config, tiny_model, tiny_processor
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.encoding import videos
from ts2net.encoding.videos import VideoEncoder

SHIFTS: list[dict[str, Any]] = [
    {"shift_kind": kind, "shift_layers": layers}
    for kind in ("token", "channel", "channel_patches", "channel_cls")
    for layers in ([1, 2], [2], [0], [0, 2], [0, 1, 2])
] + [{"shift_kind": "none"}]


@dataclass
class Window:
    video_id: str
    frame_numbers: list[int]
    pixels: np.ndarray


def cut(video_id: str, num_frames: int, length: int, step: int, grid: int = 1, repeats: int = 1) -> list[Window]:
    """Cut windows of every `grid`-th frame from a video that repeats each frame `repeats` times."""
    frames = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 3, 32, 32), dtype=np.uint8)
    windows = []
    for start in range(0, num_frames, step):
        numbers = [number // repeats for number in range(start, min(start + length * grid, num_frames), grid)]
        windows.append(Window(video_id, numbers, frames[numbers]))
    return windows


def alone(model: TS2NetModel, processor: TS2NetProcessor, window: Window) -> torch.Tensor:
    inputs = processor(
        videos=[torch.from_numpy(window.pixels)], input_data_format="channels_first", do_sample_frames=False
    )
    mask = inputs["padding_mask_videos"][0].bool()
    assert mask.sum() == len(window.pixels)
    pixels = inputs["pixel_values_videos"][:, mask]
    with torch.inference_mode():
        return model.get_video_features(pixels).frame_embeds[0]


def assert_same(config: dict[str, Any], windows: list[Window], batch_size: int) -> None:
    model, processor = tiny_model(**config), tiny_processor(tiny_config(**config))
    encoder = VideoEncoder(model, processor)
    for first in range(0, len(windows), batch_size):
        batch = windows[first : first + batch_size]
        for window, frames in zip(batch, encoder.encode(batch), strict=True):
            torch.testing.assert_close(frames, alone(model, processor, window), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(2 * len(SHIFTS)))
def test_windows_are_encoded_as_each_alone(seed: int) -> None:
    """Windows get the embeddings of separate encoding for any shift, cut, order and padding mode."""
    choose = random.Random(seed)
    config = SHIFTS[seed % len(SHIFTS)] | {
        "padding_mode": choose.choice(["masked", "released"]),
        "selection_kind": choose.choice(["perturbed_topk", "random", "none"]),
        "temporal_num_layers": choose.choice([0, 2]),
    }
    by_video = []
    for name in "abc"[: choose.randint(1, 3)]:
        length = choose.randint(1, 6)
        cutting = {"length": length, "step": choose.randint(1, length), "grid": choose.choice([1, 1, 2, 3])}
        by_video.append(cut(name, choose.randint(1, 25), **cutting, repeats=choose.choice([1, 1, 1, 4])))
    # Windows of several videos alternate, in order within each video, as in the engines.
    windows = []
    while any(by_video):
        windows.append(choose.choice([video for video in by_video if video]).pop(0))
    assert_same(config, windows, choose.choice([1, 3, 16]))


def test_a_video_may_begin_again_and_more_may_come_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_VIDEOS_KEPT", 2)
    monkeypatch.setattr(videos, "_FRAMES_A_CHUNK", 5)
    windows = [window for name in "abcab" for window in cut(name, 13, length=6, step=3)]
    assert_same({}, windows, batch_size=2)


def test_each_frame_goes_once_through_the_layers_that_see_it_alone() -> None:
    """A window of 12 frames every 6, with 2 of 12 layers shifting, takes 78 layer-frames instead of 144."""
    config = tiny_config(num_frames=12)
    config.vision_config.num_hidden_layers, config.vision_config.shift_layers = 12, [10, 11]
    model = TS2NetModel(config).eval()
    frames_of_layer = [0] * 12
    for number, layer in enumerate(model.vision_model.encoder.layers):

        def count(module, args, output, number=number) -> None:
            frames_of_layer[number] += len(output)

        layer.mlp.register_forward_hook(count)  # every way of running a layer calls its MLP
    windows = cut("a", 12 + 6 * 8, length=12, step=6)
    encoder = VideoEncoder(model, tiny_processor(config))
    for window in windows[:4]:  # the first windows have fewer known frames
        encoder.encode([window])
    before = list(frames_of_layer)
    encoder.encode(windows[4:5])
    encoder.encode(windows[5:7])
    assert [(after - first) / 3 for first, after in zip(before, frames_of_layer, strict=True)] == [6] * 10 + [8, 10]


def test_what_is_remembered_does_not_grow_with_the_video() -> None:
    model = tiny_model()
    encoder = VideoEncoder(model, tiny_processor(model.config))

    def remembered() -> int:
        return sum(len(values._tokens) for values in encoder._values)

    windows = cut("a", 300, length=6, step=2)
    encoder.encode(windows[:2])
    few = remembered()
    for first in range(2, 100, 7):
        encoder.encode(windows[first : first + 7])
        assert remembered() == few
    for values in encoder._values:
        for tokens in values._tokens.values():
            assert tokens.untyped_storage().nbytes() == tokens.nbytes, "no value keeps others with it"
