"""Shift: each variant moves exactly the intended tokens and channels, and padding moves nothing."""

import pytest
import torch

from support.tiny_models import random_inputs, tiny_config, tiny_model
from ts2net.modeling_ts2net import TS2NetShift


def shifted_one_by_one(tokens, config, real):
    """Compute the shift by a loop that looks up the source of each token and channel."""
    videos, frames, length, width = tokens.shape
    part = int(width * config.shift_channel_fraction)
    result = tokens.clone()
    for video in range(videos):
        for frame in range(frames):
            for token in range(length):
                for channel in range(width):
                    step = 0
                    if config.shift_kind == "token" and token:
                        step = {0: -1, config.shift_offset: 1}.get((token - 1) % config.shift_stride, 0)
                    elif config.shift_kind.startswith("channel"):
                        taking = {"channel": True, "channel_patches": token > 0, "channel_cls": token == 0}
                        if taking[config.shift_kind]:
                            step = -1 if channel < part else 1 if channel < 2 * part else 0
                    source = frame + step
                    if 0 <= source < frames and real[video, frame] and real[video, source]:
                        result[video, frame, token, channel] = tokens[video, source, token, channel]
    return result


@pytest.mark.parametrize("padding", ["none", "behind", "holes"])
@pytest.mark.parametrize("kind", ["token", "channel", "channel_patches", "channel_cls"])
def test_moves_what_it_should(kind, padding):
    config = tiny_config(shift_kind=kind, shift_channel_fraction=0.25).vision_config
    tokens = torch.randn(2, 5, 17, 8, generator=torch.Generator().manual_seed(0))
    config.hidden_size = 8
    real = torch.ones(2, 5, dtype=torch.bool)
    if padding == "behind":
        real[0, 3:] = False
    elif padding == "holes":
        real[1, [0, 2]] = False
    shifted = TS2NetShift(config)(tokens, None if padding == "none" else real)
    assert torch.equal(shifted, shifted_one_by_one(tokens, config, real))
    assert not torch.equal(shifted, tokens)


def test_a_vit_b32_moves_fourteen_of_its_fifty_tokens():
    from ts2net import TS2NetVisionConfig

    tokens = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 50, 768)
    moved = TS2NetShift(TS2NetVisionConfig())(tokens)[0, 1, :, 0] != 1
    assert moved.nonzero().flatten().tolist() == sorted([*range(1, 50, 7), *range(4, 50, 7)])


def test_only_what_attention_reads_is_shifted():
    """With zeroed attention outputs, frames are independent, so the residual branch is not shifted."""
    model = tiny_model(temporal_num_layers=0)
    layers = model.vision_model.encoder.layers
    assert [layer.shift is not None for layer in layers] == [False, True, True]
    for layer in layers:
        torch.nn.init.zeros_(layer.self_attn.out_proj.weight)
        torch.nn.init.zeros_(layer.self_attn.out_proj.bias)
    pixels = random_inputs(1, 4)["pixel_values_videos"]
    with torch.no_grad():
        together = model.get_video_features(pixels).last_hidden_state
        alone = torch.cat([model.get_video_features(pixels[:, [t]]).last_hidden_state for t in range(4)], dim=1)
    torch.testing.assert_close(together, alone)
