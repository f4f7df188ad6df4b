"""The model's outputs: padding, batches, determinism, selection, matching, and initialisation from CLIP."""

import pytest
import torch
from transformers import CLIPModel

from support.tiny_models import random_inputs, tiny_clip, tiny_clip_config, tiny_config, tiny_model
from ts2net import TS2NetModel, modeling_ts2net
from ts2net.modeling_ts2net import contrastive_loss


def padded(inputs, frames):
    """Return the same inputs with frames of noise after each video, marked as padding."""
    videos, old = inputs["pixel_values_videos"].shape[:2]
    noise = torch.randn(videos, frames - old, 3, 32, 32, generator=torch.Generator().manual_seed(99)) * 10
    mask = torch.cat([inputs["padding_mask_videos"], torch.zeros(videos, frames - old, dtype=torch.bool)], dim=1)
    return inputs | {
        "pixel_values_videos": torch.cat([inputs["pixel_values_videos"], noise], dim=1),
        "padding_mask_videos": mask,
    }


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits_per_text


# Padding and batches


@pytest.mark.parametrize("shift_kind", ["token", "channel"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_changes_nothing(shift_kind, attention):
    model = tiny_model(shift_kind=shift_kind)
    model.set_attn_implementation(attention)
    inputs = random_inputs(frames=4)
    torch.testing.assert_close(logits(model, padded(inputs, 6)), logits(model, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift_kind", ["token", "channel", "channel_patches", "channel_cls", "none"])
@pytest.mark.parametrize("selection_kind", ["perturbed_topk", "none"])
def test_padding_on_either_side_and_of_any_content_changes_nothing(shift_kind, selection_kind):
    model, inputs = tiny_model(shift_kind=shift_kind, selection_kind=selection_kind), random_inputs(frames=4)
    expected = logits(model, inputs)
    padding = torch.full((3, 2, 3, 32, 32), float("nan"))
    absent = torch.zeros(3, 2, dtype=torch.bool)
    pixels, real = inputs["pixel_values_videos"], inputs["padding_mask_videos"]
    for parts in (slice(None), slice(None, None, -1)):
        inputs["pixel_values_videos"] = torch.cat([pixels, padding][parts], dim=1)
        inputs["padding_mask_videos"] = torch.cat([real, absent][parts], dim=1)
        torch.testing.assert_close(logits(model, inputs), expected, atol=1e-5, rtol=1e-5)


def test_a_mask_of_true_is_no_mask_and_numbers_do():
    model, inputs = tiny_model(), random_inputs()
    unmasked = inputs | {"padding_mask_videos": None}
    numbers = inputs | {"padding_mask_videos": inputs["padding_mask_videos"].long()}
    assert torch.equal(logits(model, inputs), logits(model, unmasked))
    assert torch.equal(logits(model, inputs), logits(model, numbers))


def test_batch_mates_change_nothing():
    """Videos of 6, 2 and 4 frames get the same scores in one batch and alone."""
    model, inputs = tiny_model(), random_inputs(3)
    inputs["padding_mask_videos"][1, 2:] = False
    inputs["padding_mask_videos"][2, 4:] = False
    together = logits(model, inputs)
    for video in range(3):
        alone = inputs | {name: inputs[name][[video]] for name in ("pixel_values_videos", "padding_mask_videos")}
        torch.testing.assert_close(together[:, [video]], logits(model, alone), atol=1e-5, rtol=1e-5)


def test_released_padding_agrees_with_masked_on_full_videos_only():
    masked, released = tiny_model(), tiny_model(padding_mode="released")
    inputs = random_inputs()
    torch.testing.assert_close(logits(masked, inputs), logits(released, inputs))
    inputs["padding_mask_videos"][0, 3:] = False
    difference = (logits(masked, inputs) - logits(released, inputs)).abs()
    assert difference[:, 0].min() > 1e-3
    assert difference[:, 1:].max() < 1e-5


def test_released_padding_tiles_the_frame_mask():
    """With 6 frames and 4 tokens, matching counts frame t if frame 4 t mod 6 (0, 4, 2, 0, 4, 2) is real."""
    model = tiny_model(padding_mode="released")
    mask = torch.tensor([[True, True, True, True, False, False]])
    text, video = torch.randn(2, 32), torch.randn(1, 6, 32)
    weights = model.frame_weights(text, video, mask)
    assert (weights > 0).all(0).flatten().tolist() == [True, False, True, True, False, True]


def test_a_video_without_real_frames_scores_zero():
    model, inputs = tiny_model(), random_inputs(2)
    inputs["padding_mask_videos"][1] = False
    assert torch.equal(logits(model, inputs)[:, 1], torch.zeros(2))


# Selection


@pytest.mark.parametrize("kind", ["perturbed_topk", "random", "none"])
def test_evaluation_is_deterministic(kind):
    model, inputs = tiny_model(selection_kind=kind), random_inputs()
    first = model(**inputs)
    torch.manual_seed(1)
    second = model(**inputs)
    assert torch.equal(first.logits_per_text, second.logits_per_text)
    assert torch.equal(first.selected_token_indices, second.selected_token_indices)


@pytest.mark.parametrize("activation", ["tanh", "softmax"])
def test_the_best_scored_patches_follow_cls_in_grid_order(activation):
    model, inputs = tiny_model(selection_activation=activation), random_inputs()
    output = model.get_video_features(inputs["pixel_values_videos"])
    indices, scores = output.selected_token_indices, output.selection_scores
    assert indices.shape == (3, 6, 3)
    assert indices.min() >= 1
    assert (indices.diff(dim=-1) > 0).all()
    best = scores[:, :, 1:].sort(dim=-1, descending=True).values[:, :, 2]
    assert (scores.take_along_dim(indices, -1) >= best[..., None]).all()
    kept = torch.cat([torch.zeros_like(indices[..., :1]), indices], dim=-1)
    assert torch.equal(output.selected_tokens, output.token_embeds.take_along_dim(kept[..., None], dim=2))


def test_one_vector_a_video_is_the_mean_of_its_real_unit_frames():
    """The product of the vector and a text is mean matching. Padding has no effect, whatever it contains."""
    model, inputs = tiny_model(matching_kind="mean"), random_inputs()
    pixels, mask = inputs["pixel_values_videos"], inputs["padding_mask_videos"]
    mask[1, 4:] = mask[2, 1:] = False
    pixels[1, 4:] = torch.nan
    with torch.no_grad():
        output, scores = model.get_video_features(pixels, mask), model(**inputs)
    assert output.last_hidden_state.shape == (3, 6, 17, 32)
    assert output.pooler_output.shape == (3, 32)
    unit = torch.nn.functional.normalize(output.frame_embeds, dim=-1)
    for pooled, frames, real in zip(output.pooler_output, unit, mask, strict=True):
        torch.testing.assert_close(pooled, frames[real].mean(dim=0))
    products = scores.text_embeds @ output.pooler_output.t()
    torch.testing.assert_close(scores.logits_per_text, scores.logit_scale * products)


def test_text_positions_reach_the_texts_alone():
    model, inputs = tiny_model(), random_inputs()
    positions = torch.arange(inputs["input_ids"].shape[1]).flip(0)[None]
    plain, moved = model(**inputs), model(**inputs, position_ids=positions)
    assert not torch.allclose(moved.text_embeds, plain.text_embeds)
    assert torch.equal(moved.video_embeds, plain.video_embeds)


def test_keywords_of_attention_reach_the_texts_alone():
    """`is_causal` reaches only the text transformer, which is causal anyway. The others must stay bidirectional."""
    model, inputs = tiny_model(), random_inputs()
    plain, causal = model(**inputs), model(**inputs, is_causal=True, token_type_ids=inputs["input_ids"])
    assert torch.equal(causal.logits_per_text, plain.logits_per_text)
    with pytest.raises(TypeError, match="position_ids"):
        model.get_video_features(inputs["pixel_values_videos"], position_ids=torch.zeros(1, 9))


def test_frames_with_fewer_patches_than_are_selected_are_named():
    with pytest.raises(ValueError, match="the frames have 1 patches, and num_selected_tokens=3 of them are selected"):
        tiny_model().get_video_features(torch.zeros(1, 2, 3, 8, 8), interpolate_pos_encoding=True)


def test_random_choice_differs_between_frames_and_between_steps_of_training():
    model, pixels = tiny_model(selection_kind="random"), random_inputs(2)["pixel_values_videos"]
    fixed = model.get_video_features(pixels).selected_token_indices
    assert torch.equal(fixed[0], fixed[1])
    assert len({tuple(frame) for frame in fixed[0].tolist()}) > 1
    model.train()
    steps = [model.get_video_features(pixels).selected_token_indices for _ in range(2)]
    assert not torch.equal(*steps)


@pytest.mark.parametrize("kind", ["perturbed_topk", "random"])
def test_in_training_a_videos_draws_depend_on_its_seed_alone(kind):
    model, inputs = tiny_model(selection_kind=kind).train(), random_inputs(4)
    pixels, seeds = inputs["pixel_values_videos"], torch.tensor([5, 6, 7, 8])
    together = model.get_video_features(pixels, selection_seeds=seeds).selected_tokens
    alone = model.get_video_features(pixels[2:3], selection_seeds=seeds[2:3]).selected_tokens
    other = model.get_video_features(pixels[2:3], selection_seeds=seeds[1:2]).selected_tokens
    torch.testing.assert_close(together[2:3], alone)
    assert not torch.allclose(alone, other)


def test_training_mixes_patches_and_teaches_the_scorer():
    model, inputs = tiny_model().train(), random_inputs()
    torch.manual_seed(0)
    model(**inputs, return_loss=True).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias adds the same constant to all scores of a query, which softmax ignores.
        assert "k_proj.bias" in name or parameter.grad.abs().max() > 0, name


# Matching and loss


def test_none_none_mean_is_frame_averaged_clip():
    clip, inputs = tiny_clip(), random_inputs()
    model = TS2NetModel.from_clip_model(
        clip, shift_kind="none", selection_kind="none", matching_kind="mean", temporal_num_layers=0
    )
    by_frame = [
        clip(inputs["input_ids"], inputs["pixel_values_videos"][:, frame], inputs["attention_mask"]).logits_per_text
        for frame in range(6)
    ]
    torch.testing.assert_close(model(**inputs).logits_per_text, torch.stack(by_frame).mean(0))


def test_weighted_matching_follows_its_formula_and_stays_between_mean_and_best():
    model, inputs = tiny_model(), random_inputs()
    inputs["padding_mask_videos"][1, 4:] = False
    output = model(**inputs, output_frame_weights=True)
    for video, frames in enumerate((6, 4, 6)):
        cosines = output.text_embeds @ output.video_embeds[video, :frames].T
        weights = (4 * cosines / cosines.norm(dim=-1, keepdim=True)).softmax(-1)
        similarity = (weights * cosines).sum(-1)
        torch.testing.assert_close(output.frame_weights[:, video, :frames], weights)
        torch.testing.assert_close(output.logits_per_text[:, video], similarity * model.logit_scale.exp())
        assert (similarity >= cosines.mean(-1)).all()
        assert (similarity <= cosines.max(-1).values).all()
    torch.testing.assert_close(output.frame_weights.sum(-1), torch.ones(3, 3))
    assert (output.frame_weights[:, 1, 4:] == 0).all()


def test_similarity_is_the_same_in_chunks(monkeypatch):
    model = tiny_model()
    generator = torch.Generator().manual_seed(0)
    text, video = torch.randn(23, 32, generator=generator), torch.randn(19, 6, 32, generator=generator)
    mask = torch.rand(19, 6, generator=generator) > 0.2
    whole = model.similarity(text, video, mask)
    for elements in (1, 7, 200, 1000):
        monkeypatch.setattr(modeling_ts2net, "_CHUNK_ELEMENTS", elements)
        torch.testing.assert_close(model.similarity(text, video, mask), whole)


def test_similarity_does_not_care_for_length_and_keeps_float32():
    model = tiny_model()
    text, video = torch.randn(4, 32), torch.randn(3, 6, 32)
    torch.testing.assert_close(model.similarity(text * 3, video * 5), model.similarity(text, video))
    assert model.similarity(text.bfloat16(), video.bfloat16()).dtype == torch.float32


def test_mixed_precision_leaves_the_matching_in_float32():
    model, text, video = tiny_model(), torch.randn(4, 32), torch.randn(3, 6, 32)
    expected = model.similarity(text, video)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.similarity(text, video), expected)
        assert model(**random_inputs(), return_loss=True).loss.dtype == torch.float32


def test_outputs_are_of_length_one_and_fit_together():
    model, inputs = tiny_model(), random_inputs(videos=3, texts=2)
    output = model(**inputs)
    assert output.loss is None
    assert output.logits_per_text.shape == (2, 3)
    assert torch.equal(output.logits_per_video, output.logits_per_text.T)
    torch.testing.assert_close(output.text_embeds.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(output.video_embeds.norm(dim=-1), torch.ones(3, 6))
    again = model.similarity(output.text_embeds, output.video_embeds, inputs["padding_mask_videos"])
    torch.testing.assert_close(output.logits_per_text, again)


def test_loss_is_symmetric_cross_entropy():
    scores = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = torch.log_softmax(scores, 1).diag().mean()
    columns = torch.log_softmax(scores, 0).diag().mean()
    torch.testing.assert_close(contrastive_loss(scores), -(rows + columns) / 2)
    with pytest.raises(ValueError, match="2 texts and 3 videos"):
        tiny_model()(**random_inputs(videos=3, texts=2), return_loss=True)


# Initialisation from CLIP


def test_clip_tensors_arrive_bit_for_bit_and_the_text_starts_the_temporal_encoder(tmp_path):
    clip = tiny_clip()
    clip.save_pretrained(tmp_path)
    model = TS2NetModel.from_clip(tmp_path, num_frames=6)
    state = model.state_dict()
    for name, value in clip.state_dict().items():
        assert torch.equal(state.pop(name), value), name
    for index in range(4):
        for name, value in clip.text_model.encoder.layers[index].state_dict().items():
            assert torch.equal(state.pop(f"temporal_encoder.layers.{index}.{name}"), value), name
    positions = state.pop("temporal_encoder.position_embedding.weight")  # 24 of them, from 16
    text_positions = clip.text_model.embeddings.position_embedding.weight
    torch.testing.assert_close(positions[[0, -1]], text_positions[[0, -1]])
    assert {name.split(".")[0] for name in state} == {"token_selector"}
    assert all(value.isfinite().all() for value in state.values())


def test_positions_are_copied_where_there_are_enough():
    clip = tiny_clip()
    model = TS2NetModel.from_clip_model(clip, num_frames=4)
    embedding = model.temporal_encoder.position_embedding.weight
    assert torch.equal(embedding, clip.text_model.embeddings.position_embedding.weight)


def test_positions_are_scaled_at_the_start_alone(tmp_path):
    """The saved weights contain the scale, so loading does not scale again. All other weights are unaffected."""
    clip, name = tiny_clip(), "temporal_encoder.position_embedding.weight"
    starts = []
    for scale in (1.0, 4.0):
        torch.manual_seed(0)
        starts.append(TS2NetModel.from_clip_model(clip, num_frames=6, temporal_position_scale=scale))
    starts[1].save_pretrained(tmp_path)
    loaded = TS2NetModel.from_pretrained(tmp_path)
    assert loaded.config.temporal_position_scale == 4.0
    plain, scaled = starts[0].state_dict(), loaded.state_dict()
    assert torch.equal(scaled.pop(name), 4 * plain.pop(name))
    assert all(torch.equal(value, plain[key]) for key, value in scaled.items())


def test_dtype_of_the_checkpoint_is_kept_unless_another_is_asked_for(tmp_path):
    tiny_clip().to(torch.bfloat16).save_pretrained(tmp_path)
    assert TS2NetModel.from_clip(tmp_path).dtype == torch.bfloat16
    assert TS2NetModel.from_clip(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_what_is_no_whole_clip_is_refused(tmp_path):
    clip = tiny_clip()
    state = clip.state_dict()
    state.pop("visual_projection.weight")
    clip.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"is not a whole CLIP: it lacks 'visual_projection.weight'$"):
        TS2NetModel.from_clip(tmp_path)
    with pytest.raises(ValueError, match="temporal_num_layers=5.*only 4"):
        TS2NetModel.from_clip_model(clip, temporal_num_layers=5)
    with pytest.raises(ValueError, match="temporal_intermediate_size=7.*has 64"):
        TS2NetModel.from_clip_model(clip, temporal_intermediate_size=7)
    narrow = tiny_clip_config()
    narrow.projection_dim = 16
    with pytest.raises(ValueError, match="32 wide and the temporal encoder 16"):
        TS2NetModel.from_clip_model(CLIPModel(narrow))


def test_from_clip_refuses_a_ts2net_whose_other_layers_would_be_lost(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'ts2net' model already: load it with"):
        TS2NetModel.from_clip(tmp_path)


def test_from_pretrained_refuses_a_clip(tmp_path):
    tiny_clip().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="from_clip"):
        TS2NetModel.from_pretrained(tmp_path)


# Bad input


def test_arguments_come_in_the_documented_order():
    model, inputs = tiny_model(), random_inputs()
    order = ("input_ids", "attention_mask", "pixel_values_videos", "padding_mask_videos")
    by_position = model(*(inputs[name] for name in order)).logits_per_text
    assert torch.equal(by_position, model(**inputs).logits_per_text)
    with pytest.raises(ValueError, match="get_text_features"):
        model(inputs["input_ids"])


def test_wrong_shapes_are_named():
    model, inputs = tiny_model(), random_inputs()
    with pytest.raises(ValueError, match=r"\(videos, frames, channels, height, width\), got \(18, 3, 32, 32\)"):
        model.get_video_features(inputs["pixel_values_videos"].flatten(0, 1))
    with pytest.raises(ValueError, match=r"padding_mask_videos must have shape .* = \(3, 6\), got \(3, 5\)"):
        model.get_video_features(inputs["pixel_values_videos"], torch.ones(3, 5))
    with pytest.raises(ValueError, match="28 tokens and the temporal encoder 24 positions"):
        model.get_video_features(torch.zeros(1, 7, 3, 32, 32))


def test_frames_cannot_skip_vision_layers():
    """`first_vision_layer` needs hidden states. With frames, skipped layers would give wrong scores."""
    with pytest.raises(ValueError, match=r"first_vision_layer=1 would skip layers"):
        tiny_model()(**random_inputs(), first_vision_layer=1)


def test_one_selection_seed_for_each_video():
    with pytest.raises(ValueError, match=r"each of 3 videos, got shape \(1,\)"):
        tiny_model()(**random_inputs(), selection_seeds=torch.tensor([7]))


def test_configuration_and_weights_agree_on_size():
    assert tiny_model().num_parameters() == TS2NetModel(tiny_config()).num_parameters()
