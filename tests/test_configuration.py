"""Configurations: defaults, validation and error messages."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPConfig, CLIPTextConfig, CLIPVisionConfig

from support.tiny_models import tiny_clip_config, tiny_config
from ts2net import TS2NetConfig, TS2NetVisionConfig


def test_parts_of_another_kind_are_named():
    with pytest.raises(
        TypeError, match="vision_config must be a TS2NetVisionConfig or a dict, got a CLIPVisionConfig"
    ):
        TS2NetConfig(vision_config=CLIPVisionConfig())


def test_defaults_are_the_paper_on_vit_b32():
    config = TS2NetConfig()
    assert (config.vision_config.shift_kind, config.vision_config.shift_layers) == ("token", [10, 11])
    assert (config.vision_config.shift_stride, config.vision_config.shift_offset) == (7, 3)
    assert (config.selection_kind, config.num_selected_tokens, config.tokens_per_frame) == ("perturbed_topk", 3, 4)
    assert (config.temporal_num_layers, config.temporal_num_heads, config.temporal_num_positions) == (4, 8, 77)
    assert (config.padding_mode, config.matching_kind, config.matching_temperature) == ("masked", "weighted", 4.0)
    assert isinstance(config.text_config, CLIPTextConfig)
    assert isinstance(config.vision_config, TS2NetVisionConfig)


def test_positions_grow_with_the_frames():
    assert TS2NetConfig(num_frames=64).temporal_num_positions == 256


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"padding_mode": "none"}, "padding_mode"),
        ({"selection_kind": "best"}, "selection_kind"),
        ({"selection_activation": "relu"}, "selection_activation"),
        ({"selection_gradient": "full"}, "selection_gradient"),
        ({"matching_kind": "max"}, "matching_kind"),
        ({"shift_kind": "patch"}, "shift_kind"),
        ({"num_selected_tokens": 0}, "selection_kind='none'"),
        ({"num_selected_tokens": 17}, "16 patches"),
        ({"selection_sigma": 0.0}, "selection_sigma must be a positive number, got 0.0"),
        ({"selection_num_samples": 0}, "selection_num_samples"),
        ({"temporal_num_layers": -1}, "temporal_num_layers"),
        ({"temporal_num_heads": 3}, r"projection_dim \(32\), got 3"),
        ({"temporal_num_positions": 10}, "6 frames of 4 tokens need 24"),
        ({"temporal_position_scale": 0}, "temporal_position_scale must be a positive number, got 0"),
        ({"temporal_position_scale": float("inf")}, "temporal_position_scale"),
        ({"num_frames": 0}, "num_frames"),
        ({"matching_temperature": -1}, "matching_temperature"),
        ({"matching_temperature": float("nan")}, "matching_temperature"),
        ({"projection_dim": 0}, "projection_dim"),
        ({"logit_scale_init_value": float("nan")}, "logit_scale_init_value"),
        ({"initializer_factor": -1.0}, "initializer_factor"),
        ({"selection_sigma": float("inf")}, "selection_sigma"),
        ({"temporal_layer_norm_eps": -1.0}, "temporal_layer_norm_eps"),
        ({"temporal_hidden_act": "foo"}, "'foo'"),
        ({"shift_layers": [3]}, "from 0 to 2, got"),
        ({"shift_layers": [1, 1]}, "different layers"),
        ({"shift_stride": 2, "shift_offset": 2}, "shift_offset=2, shift_stride=2"),
        ({"shift_channel_fraction": 0.6}, "at most 0.5"),
        ({"shift_kind": "channel", "shift_channel_fraction": 0.01}, "no channel"),
    ],
)
def test_wrong_values_fail_when_the_configuration_is_made(overrides, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**overrides)


def test_vision_needs_whole_patches():
    with pytest.raises(StrictDataclassError, match="image_size"):
        TS2NetVisionConfig(image_size=[224, 224])
    with pytest.raises(StrictDataclassError, match="patch_size"):
        TS2NetVisionConfig(image_size=16, patch_size=32)


def test_survives_a_round_trip(tmp_path):
    config = tiny_config(shift_kind="channel", padding_mode="released", num_frames=20, matching_kind="mean")
    config.save_pretrained(tmp_path)
    assert TS2NetConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert type(AutoConfig.from_pretrained(tmp_path)) is TS2NetConfig


def test_overrides_go_where_they_belong_and_strangers_are_named():
    config = tiny_config(shift_kind="none", selection_kind="none")
    assert (config.vision_config.shift_kind, config.tokens_per_frame) == ("none", 1)
    for name in ("shift", "hidden_size", "vision_config"):
        with pytest.raises(TypeError, match=f"'{name}' is not a setting"):
            tiny_config(**{name: 1})


def test_overrides_when_loading_are_checked_too(tmp_path):
    """More frames than the saved temporal positions allow are refused, because the positions are weights."""
    tiny_config().save_pretrained(tmp_path)
    assert TS2NetConfig.from_pretrained(tmp_path, matching_kind="mean").matching_kind == "mean"
    with pytest.raises(StrictDataclassError, match="12 frames of 4 tokens need 48 temporal positions"):
        TS2NetConfig.from_pretrained(tmp_path, num_frames=12)
    with pytest.raises(StrictDataclassError, match="shift_offset=5"):
        TS2NetConfig.from_pretrained(tmp_path, vision_config={"shift_offset": 5})


def test_vision_settings_in_the_wrong_place_are_refused(tmp_path):
    """Vision settings passed to the outer configuration are refused, because the model would ignore them."""
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="'shift_kind' is a field of the vision configuration"):
        TS2NetConfig(shift_kind="none")
    with pytest.raises(TypeError, match="'shift_kind' is a field of the vision configuration"):
        TS2NetConfig.from_pretrained(tmp_path, shift_kind="none")


def test_a_clip_checkpoint_is_not_taken_for_a_ts2net(tmp_path):
    tiny_clip_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="from_clip"):
        TS2NetConfig.from_pretrained(tmp_path)


def test_old_clip_configurations_get_the_right_end_of_text():
    """Old configurations declare end-of-text id 2, which works only while the real one is the highest id."""
    config = TS2NetConfig.from_clip_config(CLIPConfig(text_config={"eos_token_id": 2}))
    assert config.text_config.eos_token_id == 49407


def test_a_pipeline_of_code_beside_it_is_not_saved_with_a_configuration_alone(tmp_path):
    """Saving a configuration omits its custom pipeline, and leaves the configuration in memory unchanged."""
    config = tiny_config()
    config.custom_pipelines = {"text-video-scoring": {"impl": "pipeline_ts2net.TextVideoScoringPipeline"}}
    config.save_pretrained(tmp_path)
    assert "custom_pipelines" not in (tmp_path / "config.json").read_text()
    assert "text-video-scoring" in config.custom_pipelines
