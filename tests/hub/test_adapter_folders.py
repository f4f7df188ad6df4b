"""Folders and repositories of adapters: contents, loading and errors."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModel

from support.loopback_hub import LoopbackHub
from support.tiny_models import random_inputs, tiny_clip, tiny_model, tiny_processor, tiny_tokenizer
from ts2net import TS2NetModel
from ts2net.hub import ModelLoadingError, load_model, push_to_hub, save_hub_folder
from ts2net.hub.adapters import (
    add_adapters,
    has_adapters,
    lora_config,
    merge_adapters,
    read_lora_config,
    trained_share,
)

# huggingface_hub causes this warning of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        yield hub


def adapted(base: str) -> TS2NetModel:
    """A model with adapters that change its scores."""
    model = tiny_model()
    add_adapters(model, lora_config(2), base)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model.eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(**random_inputs()).logits_per_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of adapters for the model in the neighboring folder `base`."""
    base = save_hub_folder(tiny_model(), tiny_processor(), tmp_path / "base")
    return save_hub_folder(adapted(str(base)), tiny_processor(), tmp_path / "adapters")


@pytest.mark.slow
def test_a_pushed_repository_of_adapters_loads_from_the_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    """`load_model` and `AutoModel` load pushed adapters together with their base model."""
    push_to_hub(tiny_model(), tiny_processor(), "tester/base", token=hub.token)
    model = adapted("tester/base")
    push_to_hub(model, tiny_processor(), "tester/adapters", token=hub.token)
    files = HfApi().list_repo_files("tester/adapters")
    assert "config.json" not in files
    assert {"adapter_config.json", "adapter_model.safetensors", "processor_config.json"} <= set(files)
    card = ModelCard.load("tester/adapters")
    assert (card.data.base_model, card.data.base_model_relation) == ("tester/base", "adapter")
    loaded, processor = load_model("tester/adapters", device="cpu")
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=1e-5)
    assert processor.video_processor.num_frames == 6
    assert torch.equal(logits(AutoModel.from_pretrained("tester/adapters").eval()), logits(model))


def test_adapters_for_a_folder_of_this_machine_are_not_pushed(hub: LoopbackHub, folder: Path) -> None:
    model = TS2NetModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="base is on this machine alone: push that folder first"):
        push_to_hub(model, tiny_processor(), "tester/adapters", token=hub.token)


def test_merging_changes_no_score_and_leaves_a_plain_model() -> None:
    model = adapted("base")
    expected, (trained, total) = logits(model), trained_share(model)
    merge_adapters(model)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert not has_adapters(model)
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    assert (
        trained
        < total
        == model.num_parameters()
        + sum(
            2 * 2 * 32 for tower in (model.text_model, model.vision_model) for _ in tower.encoder.layers for _ in "qv"
        )
    )


def test_one_kind_of_model_replaces_the_other_in_a_folder(folder: Path) -> None:
    """Saving removes the other kind's configuration; otherwise transformers would load the wrong model."""
    plain, base = tiny_model(seed=3), str(folder.parent / "base")
    save_hub_folder(plain, tiny_processor(), folder)
    assert not (folder / "adapter_config.json").exists()
    assert torch.equal(logits(TS2NetModel.from_pretrained(folder)), logits(plain))
    save_hub_folder(adapted(base), tiny_processor(), folder)
    assert not (folder / "config.json").exists()
    assert torch.equal(logits(TS2NetModel.from_pretrained(folder).eval()), logits(adapted(base)))


def without(name: str):
    return lambda folder: (folder / name).unlink()


def config_with(**fields: object):
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def for_a_clip(folder: Path) -> None:
    tiny_clip().save_pretrained(folder.parent / "clip")
    tiny_tokenizer().save_pretrained(folder.parent / "clip")
    config_with(base_model_name_or_path=str(folder.parent / "clip"))(folder)


def for_adapters(folder: Path) -> None:
    config_with(base_model_name_or_path=str(folder))(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without("adapter_model.safetensors"), "adapter_model.safetensors"),
        (config_with(r=3), "has adapters of another kind"),
        (config_with(peft_type="IA3"), "only 'LORA' can be trained"),
        (config_with(base_model_name_or_path=None), "names None, which is no model"),
        (config_with(base_model_name_or_path="/no/such/folder"), "there is no folder /no/such/folder"),
        (lambda folder: (folder / "adapter_config.json").write_text("x"), "names no model"),
        (for_a_clip, "clip, which is no TS2-Net"),
        (for_adapters, "adapters, which is no TS2-Net"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(folder: Path, damage, reason: str) -> None:
    damage(folder)
    with pytest.raises(ModelLoadingError, match=reason) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_without_peft_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelLoadingError, match=r"peft is not installed: pip install 'ts2net\[peft\]'"):
        load_model(folder, device="cpu")
    with pytest.raises(ImportError, match=r"pip install 'ts2net\[peft\]'"):
        lora_config(2)


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"peft_type": "LORA", "rank": 2}')
    with pytest.raises(ValueError, match="rank"):
        read_lora_config(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read_lora_config(tmp_path)
    with pytest.raises(ValueError, match="names of layers"):
        lora_config(2, ["q proj"])
    model = adapted("base")
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, lora_config(2), "base")
