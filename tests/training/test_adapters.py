"""Training with adapters: trained parameters, checkpoints, the gradient cache, and loading from a run's folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoProcessor

from support.streamed_data import stream
from support.tiny_models import random_inputs, tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net import TS2NetModel
from ts2net.hub import load_model, save_hub_folder
from ts2net.hub.adapters import adapter_config
from ts2net.training import TS2NetTrainer
from ts2net.training.adapting import adapt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model(matching_kind="wti")
    return save_hub_folder(model, tiny_processor(model.config), tmp_path_factory.mktemp("base") / "model")


def trainer_of(folder: Path, base: Path | None, **settings: Any) -> TS2NetTrainer:
    torch.manual_seed(0)
    model = tiny_model() if base is None else TS2NetModel.from_pretrained(base)
    for layer in model.text_model.encoder.layers:
        layer.self_attn.dropout = 0.2  # so that resuming depends on the restored random state
    return TS2NetTrainer(
        model,
        tiny_arguments(folder, **({"lora_r": 2, "max_steps": 4} | settings)),
        train_dataset=stream(training_rows()),
        processing_class=tiny_processor(model.config),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A run of four steps, with a checkpoint after every second step and the model saved at the end."""
    folder = tmp_path_factory.mktemp("run") / "run"
    trainer = trainer_of(folder, base, save_strategy="steps", save_steps=2)
    trainer.train()
    trainer.save_model()
    return folder


def test_adapters_name_their_model_with_its_commit(tmp_path: Path):
    model = tiny_model()
    model.name_or_path, model.commit = "me/base", "c0ffee"
    adapt(model, tiny_processor(), tiny_arguments(tmp_path, lora_r=2))
    config = adapter_config(model)
    assert (config.base_model_name_or_path, config.revision) == ("me/base", "c0ffee")


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model.eval()(**random_inputs()).logits_per_text


def test_only_adapters_and_new_layers_are_trained(tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture):
    trainer = trainer_of(tmp_path / "run", base)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert changed == trained
    assert {name.partition(".")[0] for name in trained if "lora_" in name} == {"text_model", "vision_model"}
    of_new = {name.partition(".")[0] for name in trained if "lora_" not in name}
    assert of_new == {"token_selector", "temporal_encoder", "word_interaction"}
    rates = {group["lr"] for group in trainer.optimizer.param_groups if group["params"]}
    assert len(rates) == 1  # no parameter uses CLIP's learning rate


def test_every_way_of_loading_gives_the_same_scores(run: Path, base: Path):
    """`AutoModel` and PEFT give identical scores; `load_model`, which merges the adapters, agrees up to rounding."""
    expected = logits(TS2NetModel.from_pretrained(run))
    assert not torch.allclose(expected, logits(TS2NetModel.from_pretrained(base)), atol=1e-3)
    assert torch.equal(logits(AutoModel.from_pretrained(run, trust_remote_code=True)), expected)
    with_peft = PeftModel.from_pretrained(TS2NetModel.from_pretrained(base), run)
    assert torch.equal(logits(with_peft), expected)
    model, processor = load_model(run, device="cpu")
    assert not hasattr(model, "peft_config")
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in tiny_model(matching_kind="wti").named_parameters()
    }
    assert all(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert processor.max_words == AutoProcessor.from_pretrained(run, trust_remote_code=True).max_words == 16


def test_a_folder_of_adapters_is_small_and_has_its_card(run: Path, base: Path):
    names = {path.name for path in run.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "processor_config.json", "README.md"} <= names
    assert not {"config.json", "model.safetensors", "modules.json", "base_model"} & names
    assert json.loads((run / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    card = ModelCard.load(run / "README.md")
    assert card.data.library_name == "peft"
    assert "lora" in card.data.tags
    assert "adapters: LoRA, rank 2, alpha 4" in card.text
    assert f"`{base}`" in card.text
    assert "pipeline(" not in card.text


@pytest.mark.parametrize("source", ["base", "clip"])
def test_a_resumed_run_ends_alike_to_the_last_bit(tmp_path: Path, run: Path, base: Path, source: str):
    """A resumed run gives bit-identical weights, also when the base model had no folder and was saved with the run."""
    whole = run
    if source == "clip":
        whole = tmp_path / "whole"
        trainer = trainer_of(whole, None, save_strategy="steps", save_steps=2)
        trainer.train()
        trainer.save_model()
        assert (whole / "base_model" / "config.json").exists()
        assert load_model(whole, device="cpu")[0].config.matching_kind == "weighted"
    resumed = trainer_of(tmp_path / "resumed", base if source == "base" else None)
    resumed.train(resume_from_checkpoint=str(whole / "checkpoint-2"))
    resumed.save_model()
    expected, actual = trained_weights(whole), trained_weights(tmp_path / "resumed")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_the_gradient_cache_takes_the_same_steps(tmp_path: Path, base: Path):
    weights = []
    for chunk_size in (None, 3):
        trainer = trainer_of(tmp_path / str(chunk_size), base, gradient_cache_chunk_size=chunk_size, max_steps=2)
        for layer in trainer.model.text_model.encoder.layers:
            layer.self_attn.dropout = 0.0  # chunks would draw different dropout masks
        trainer.train()
        trainer.save_model()
        weights.append(trained_weights(tmp_path / str(chunk_size)))
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_r": 4}, "with adapters="),
        ({"lora_target": ["fc1"]}, "with adapters="),
        ({"lora_r": None}, "with adapters="),
    ],
)
def test_other_adapters_do_not_resume(run: Path, base: Path, settings: dict[str, Any], message: str):
    trainer = trainer_of(run, base, **settings)
    with pytest.raises(ValueError, match=message):
        trainer.train(resume_from_checkpoint=str(run / "checkpoint-2"))


def test_a_configuration_of_peft_says_what_is_trained(tmp_path: Path, base: Path):
    config = LoraConfig(r=3, target_modules=["fc1"], modules_to_save=["token_selector"], use_rslora=True)
    config.save_pretrained(tmp_path / "peft")
    trainer = trainer_of(tmp_path / "run", base, lora_r=None, peft_config=str(tmp_path / "peft"), max_steps=1)
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert all(".fc1.lora_" in name or name.startswith("token_selector.") for name in trained)
    trainer.train()
    trainer.save_model()
    expected = logits(TS2NetModel.from_pretrained(tmp_path / "run"))
    torch.testing.assert_close(logits(load_model(tmp_path / "run", device="cpu")[0]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_r": 0}, "lora_r must be"),
        ({"lora_target": ["no_such_layer"]}, "no adapter can be added"),
        ({"peft_config": "x"}, "give one"),
        ({"push_to_hub": True, "hub_model_id": "me/adapters"}, "is on this machine alone"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, base: Path, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path / "run", base, **settings)
