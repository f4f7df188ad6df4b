"""Conventions of transformers models: saving, attention, checkpointing, placement, compilation, PEFT."""

import copy
import inspect

import pytest
import torch
from accelerate import cpu_offload, disk_offload, infer_auto_device_map
from peft import LoraConfig, get_peft_model
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from transformers import AutoModel, CLIPModel

from support.tiny_models import random_inputs, spread_weights, tiny_clip_config, tiny_config, tiny_model
from ts2net import TS2NetModel
from ts2net.modeling_ts2net import TS2NetVisionModel

pytestmark = pytest.mark.slow


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits_per_text


@pytest.fixture
def partly_padded():
    inputs = random_inputs()
    inputs["padding_mask_videos"][1, 4:] = False
    return inputs


@pytest.mark.parametrize(
    "overrides", [{}, {"selection_kind": "random"}, {"selection_kind": "none", "temporal_num_layers": 0}]
)
def test_saves_and_loads(tmp_path, overrides, partly_padded):
    model = tiny_model(**overrides)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    for loaded in (TS2NetModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is TS2NetModel
        assert torch.equal(logits(loaded, partly_padded), logits(model, partly_padded))


def test_modules_without_parameters_of_their_own_are_initialised():
    """transformers skips modules without own parameters in external code, so a private method is overridden."""
    torch.manual_seed(0)
    selector = TS2NetModel(tiny_config()).token_selector
    assert not list(selector.parameters(recurse=False))
    for layer in (selector.in_proj, selector.out_proj):
        assert layer.weight.std().item() == pytest.approx((3 * layer.in_features) ** -0.5, rel=0.1)


@pytest.mark.parametrize("matching_kind", ["weighted", "wti"])
def test_every_parameter_is_initialised_by_init_weights(matching_kind):
    """A model loaded without weights has the distribution of a fresh one, and no parameter stays unset."""
    config = tiny_config(matching_kind=matching_kind)
    torch.manual_seed(0)
    fresh = TS2NetModel(config)
    torch.manual_seed(0)
    loaded = TS2NetModel.from_pretrained(None, config=config, state_dict={})
    expected = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
    for name, value in (dict(loaded.named_parameters()) | dict(loaded.named_buffers())).items():
        assert value.isfinite().all(), name
        if value.is_floating_point() and value.numel() > 1:
            spread = expected[name].std()
            torch.testing.assert_close(value.std(), spread, atol=1e-8, rtol=0.5, msg=name)
        else:
            assert torch.equal(value, expected[name]), name


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        model = TS2NetModel(tiny_config())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
def test_attention_implementations_agree_and_switch(implementation, partly_padded):
    model = TS2NetModel.from_clip_model(CLIPModel(tiny_clip_config()), num_frames=6)
    spread_weights(model)
    expected = logits(model, partly_padded)
    model.set_attn_implementation(implementation)
    chosen = {model.config._attn_implementation, model.temporal_encoder.config._attn_implementation}
    chosen |= {part.config._attn_implementation for part in (model.text_model, model.vision_model)}
    assert chosen == {implementation}
    with torch.compiler.set_stance("force_eager"):  # compiling flex attention takes most of a minute
        torch.testing.assert_close(logits(model, partly_padded), expected, atol=1e-4, rtol=1e-4)


def test_attention_implementation_is_chosen_when_loading(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model = TS2NetModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert model.temporal_encoder.config._attn_implementation == "eager"
    assert model.vision_model.config._attn_implementation == "eager"


def test_hidden_states_and_attentions_of_every_transformer():
    model = tiny_model()
    model.set_attn_implementation("eager")
    output = model(**random_inputs(videos=2), output_hidden_states=True, output_attentions=True)
    text, video = output.text_model_output, output.video_model_output
    temporal = video.temporal_model_output
    assert [len(part.hidden_states) for part in (text, video, temporal)] == [5, 4, 5]
    assert [len(part.attentions) for part in (text, video, temporal)] == [4, 3, 4]
    assert text.hidden_states[0].shape == (2, 9, 32)
    assert video.hidden_states[0].shape == (12, 17, 32)
    assert video.attentions[0].shape == (12, 2, 17, 17)
    assert temporal.hidden_states[0].shape == (2, 24, 32)
    assert temporal.attentions[0].shape == (2, 2, 24, 24)


def test_hidden_states_are_left_out_unless_asked_for():
    output = tiny_model()(**random_inputs(videos=2))
    assert "hidden_states" not in output.text_model_output
    assert "hidden_states" not in output.video_model_output


def test_tuples_on_request():
    model, inputs = tiny_model(), random_inputs(videos=2)
    output, as_tuple = model(**inputs), model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], output.logits_per_text)
    features = model.get_video_features(inputs["pixel_values_videos"], return_dict=False)
    assert torch.equal(features[0], output.video_model_output.last_hidden_state)


def test_gradient_checkpointing_changes_no_gradient(partly_padded):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        loss = model(**partly_padded, selection_seeds=torch.tensor([1, 2, 3]), return_loss=True).loss
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, msg=name)


@pytest.mark.parametrize("matching_kind", ["weighted", "wti"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, matching_kind, partly_padded):
    """Scores are computed in float32 and stay near those of float32. Training gives finite gradients."""
    model = tiny_model(matching_kind=matching_kind)
    expected = logits(model, partly_padded)
    model = model.to(dtype)
    scores = logits(model, partly_padded)
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 0.5
    model.train()(**partly_padded, return_loss=True).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_compiles_for_inference_without_a_graph_break(partly_padded):
    model = tiny_model()
    expected = logits(model, partly_padded)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(logits(compiled, partly_padded), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("matching_kind", ["weighted", "wti"])
def test_one_graph_serves_every_number_of_videos_frames_texts_and_words(matching_kind):
    """The model forces no recompilation for other sizes. Only `torch.compile` itself specialises size 1."""
    model = tiny_model(matching_kind=matching_kind)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend=counter)
    # torch.compile treats equal sizes in the first call as one symbol, so all sizes differ.
    for videos, frames, texts in [(4, 5, 7), (2, 6, 11), (6, 2, 4)]:
        inputs = random_inputs(videos, frames, texts)
        inputs["padding_mask_videos"][0, 1:] = False
        torch.testing.assert_close(logits(compiled, inputs), logits(model, inputs), atol=1e-5, rtol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    "overrides", [{}, {"padding_mode": "released", "shift_kind": "channel"}, {"matching_kind": "wti"}]
)
def test_an_exported_program_takes_videos_of_any_length(overrides):
    """A program exported with several frames also accepts a single frame."""
    model = tiny_model(**overrides)
    inputs = random_inputs(3, 5, 2)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, sizes)).module()
    for videos, frames, texts in [(1, 1, 1), (4, 6, 1), (1, 2, 3)]:
        inputs = random_inputs(videos, frames, texts)
        torch.testing.assert_close(logits(program, inputs), logits(model, inputs), atol=1e-5, rtol=1e-5)


def test_compiles_for_training_but_for_the_draws(partly_padded):
    """The graph breaks only at the perturbed top-k. The loss and its gradients are unchanged."""
    model = tiny_model().train()
    seeds = torch.arange(len(partly_padded["pixel_values_videos"]))

    def gradients(network):
        model.zero_grad()
        network(**partly_padded, return_loss=True, selection_seeds=seeds).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    expected = gradients(model)
    torch._dynamo.reset()
    counters.clear()
    torch.testing.assert_close(gradients(torch.compile(model, backend="eager")), expected, atol=1e-5, rtol=1e-4)
    assert counters["graph_break"]
    assert all("Skip calling function `<function perturbed_topk" in reason for reason in counters["graph_break"])


def test_token_embeddings_grow(partly_padded):
    model = tiny_model()
    expected = logits(model, partly_padded)
    model.resize_token_embeddings(85)
    assert model.get_input_embeddings().num_embeddings == model.config.text_config.vocab_size == 85
    assert torch.equal(logits(model, partly_padded), expected)


@pytest.mark.parametrize("matching_kind", ["weighted", "wti"])
def test_offloads_to_cpu_and_disk(tmp_path, matching_kind, partly_padded):
    """Offloading works: every parameter is read while its own module runs, when its weights are loaded."""
    model = tiny_model(matching_kind=matching_kind)
    expected = logits(model, partly_padded)
    on_cpu = cpu_offload(copy.deepcopy(model), torch.device("cpu"))
    assert torch.equal(logits(on_cpu, partly_padded), expected)
    on_disk = disk_offload(copy.deepcopy(model), str(tmp_path), torch.device("cpu"))
    assert torch.equal(logits(on_disk, partly_padded), expected)


def test_loads_with_a_device_map_that_offloads(tmp_path, partly_padded):
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    device_map = {name: "cpu" for name, _ in model.named_children()} | {"logit_scale": "cpu", "vision_model": "disk"}
    loaded = TS2NetModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=str(tmp_path / "offload")
    )
    assert next(loaded.vision_model.parameters()).device.type == "meta"
    assert torch.equal(logits(loaded, partly_padded), logits(model, partly_padded))


def test_a_layer_is_never_split_between_devices():
    model = tiny_model()
    total = sum(parameter.nbytes for parameter in model.parameters())
    device_map = infer_auto_device_map(
        model, {0: total // 2, "cpu": total}, no_split_module_classes=model._no_split_modules
    )
    whole = ("embeddings", "layers")
    for name in device_map:
        inside = [part for part in whole if f".{part}." in f".{name}."]
        if "layers" in inside:
            assert name.split("layers.")[1].isdigit(), name
        elif inside:
            assert name.endswith("embeddings"), name


def test_peft_adapts_every_kind_of_layer(partly_padded):
    model = tiny_model()
    expected = logits(model, partly_padded)
    targets = ["q_proj", "v_proj", "fc1", "visual_projection", "in_proj", "score_proj"]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    assert torch.equal(logits(adapted, partly_padded), expected)  # a new adapter has no effect
    adapted.train()(**partly_padded, return_loss=True).loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    for part in ("text_model", "vision_model", "temporal_encoder", "token_selector", "visual_projection"):
        assert any(part in name for name in trained), part


def test_an_adapter_learns_with_reentrant_checkpointing(partly_padded):
    """Reentrant checkpoints need an input with a gradient, so the embeddings must provide one."""
    model = tiny_model()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).train()
    adapted(**partly_padded, return_loss=True).loss.backward()
    for part in ("text_model", "vision_model", "temporal_encoder"):
        assert any(p.grad is not None and p.grad.any() for n, p in adapted.named_parameters() if part in n), part


def test_the_main_input_is_the_first_argument():
    for model_class in (TS2NetModel, TS2NetVisionModel):
        assert list(inspect.signature(model_class.forward).parameters)[1] == model_class.main_input_name


def test_the_vision_transformer_loads_from_a_whole_model(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    vision, report = TS2NetVisionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert all(
        torch.equal(vision.state_dict()[name], value) for name, value in model.vision_model.state_dict().items()
    )


def test_whatever_is_set_on_a_configuration_is_loaded_again(tmp_path):
    """Fields of CLIP's halves are refused only as arguments. A saved model with such fields must load."""
    model = tiny_model()
    model.config.hidden_size = 32
    model.config.num_hidden_layers = 7
    model.save_pretrained(tmp_path)
    loaded = TS2NetModel.from_pretrained(tmp_path)
    assert (loaded.config.hidden_size, loaded.config.num_hidden_layers) == (32, 7)
    assert loaded.config.vision_config.num_hidden_layers == 3


def test_larger_frames_with_interpolated_positions():
    model = tiny_model()
    pixels = torch.randn(1, 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    output = model.get_video_features(pixels, interpolate_pos_encoding=True)
    assert output.token_embeds.shape == (1, 3, 37, 32)
    with pytest.raises(ValueError, match=r"\(48\*48\) doesn't match model"):
        model.get_video_features(pixels)


def test_flash_attention_without_its_package_is_a_clear_error():
    with pytest.raises(ImportError, match="(?i)flash"):
        tiny_model().set_attn_implementation("flash_attention_2")
