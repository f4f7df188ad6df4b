"""Models on ONNX Runtime compared with PyTorch, and the cache of exported files."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from support.tiny_models import random_inputs, tiny_model, tiny_processor
from ts2net import TextVideoScorer, TS2NetModel
from ts2net.encoding import runtimes
from ts2net.encoding.fingerprint import fingerprint
from ts2net.encoding.onnx_cache import onnx_folder
from ts2net.encoding.runtimes import load_on_runtime, precision_of, runtime_of
from ts2net.encoding.texts import encode_texts
from ts2net.hub import save_hub_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("assets_cache")]


def saved(folder: Path, model: TS2NetModel) -> Path:
    save_hub_folder(model, tiny_processor(model.config), folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), tiny_model())


def assert_same_as_torch(folder: Path) -> None:
    expected, processor = load_on_runtime(folder, device="cpu")
    assert runtime_of(expected) == "torch"
    model, _ = load_on_runtime(folder, runtime="onnx", device="cpu")
    assert (runtime_of(model), precision_of(model)) == ("onnx", "float32")
    inputs = random_inputs(videos=3, frames=6)
    inputs["padding_mask_videos"][0, 4:] = False
    with torch.inference_mode():
        onnx_output, torch_output = model(**inputs), expected(**inputs)
    torch.testing.assert_close(onnx_output.logits_per_text, torch_output.logits_per_text, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(onnx_output.video_embeds, torch_output.video_embeds, rtol=1e-4, atol=1e-4)
    texts = ["a dog", "two cats on a red roof"]
    for max_words in (None, 12):
        torch.testing.assert_close(
            *(encode_texts(each, processor, texts, max_words=max_words) for each in (model, expected)),
            rtol=1e-4,
            atol=1e-4,
        )
    assert fingerprint(model, processor) == fingerprint(expected, processor)


def test_a_model_computes_the_same_on_both(folder: Path) -> None:
    assert_same_as_torch(folder)


@pytest.mark.parametrize("settings", [{"shift_kind": "none"}, {"shift_layers": [0, 2]}])
def test_the_trunk_ends_where_shifting_begins(tmp_path: Path, settings) -> None:
    """The trunk can be all layers, or only the embeddings."""
    assert_same_as_torch(saved(tmp_path, tiny_model(**settings)))


def test_int8_is_near_and_texts_are_left_exact(folder: Path) -> None:
    exact, processor = load_on_runtime(folder, runtime="onnx", device="cpu")
    model, _ = load_on_runtime(folder, runtime="onnx", precision="int8", device="cpu")
    assert (runtime_of(model), precision_of(model)) == ("onnx", "int8")
    pixels = random_inputs(videos=8)["pixel_values_videos"]
    with torch.inference_mode():
        int8_embeds, exact_embeds = (each.get_video_features(pixels).pooler_output for each in (model, exact))
    assert torch.nn.functional.cosine_similarity(int8_embeds, exact_embeds).min() > 0.98  # the weights are random
    assert not torch.equal(int8_embeds, exact_embeds)
    assert torch.equal(*(encode_texts(each, processor, ["a dog"]) for each in (model, exact)))


def test_files_are_made_once_and_belong_to_one_model(folder: Path, tmp_path: Path, monkeypatch) -> None:
    model, processor = load_on_runtime(folder, runtime="onnx", device="cpu")
    cache_folder = onnx_folder(fingerprint(model, processor))
    modified = {file: file.stat().st_mtime_ns for file in cache_folder.iterdir()}
    load_on_runtime(folder, runtime="onnx", device="cpu")
    assert {file: file.stat().st_mtime_ns for file in cache_folder.iterdir()} == modified
    other = tiny_model(shift_stride=4)  # the same weights
    assert onnx_folder(fingerprint(other, processor)) != cache_folder
    monkeypatch.setattr("ts2net.encoding.onnx_cache.version", lambda library: "another")
    assert onnx_folder(fingerprint(model, processor)) != cache_folder


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_model(seed=5))
    files = onnx_folder(fingerprint(*load_on_runtime(folder, device="cpu")))
    files.mkdir(parents=True)
    for name in ("trunk.onnx", "text_model.onnx"):
        (files / name).write_bytes(b"not a graph")
    with pytest.raises(ValueError, match=r"cannot open .*trunk\.onnx"):
        load_on_runtime(folder, runtime="onnx", device="cpu")


def test_a_model_takes_its_files_along_to_another_machine(folder: Path) -> None:
    model, processor = load_on_runtime(folder, runtime="onnx", device="cpu")
    pixels = random_inputs()["pixel_values_videos"]
    expected = model.get_video_features(pixels).frame_embeds
    sent = pickle.dumps(model)
    shutil.rmtree(onnx_folder(fingerprint(model, processor)))
    received = pickle.loads(sent)
    torch.testing.assert_close(received.get_video_features(pixels).frame_embeds, expected)
    assert {"trunk.onnx", "text_model.onnx"} <= set(os.listdir(onnx_folder(received.fingerprint)))


def test_only_large_models_are_exported_unasked(folder: Path, monkeypatch) -> None:
    model, _ = load_on_runtime(folder, runtime=None, device="cpu")
    assert runtime_of(model) == "torch"
    monkeypatch.setattr(runtimes, "_SMALL", 1)
    assert runtime_of(load_on_runtime(folder, runtime=None, device="cpu")[0]) == "onnx"
    half = load_on_runtime(folder, runtime=None, device="cpu", dtype="bfloat16")[0]
    assert (runtime_of(half), precision_of(half)) == ("torch", "bfloat16")
    monkeypatch.setattr(runtimes, "find_spec", lambda library: None)
    assert runtime_of(load_on_runtime(folder, runtime=None, device="cpu")[0]) == "torch"


def test_what_cannot_be_computed_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="int8' is for runtime='onnx', got runtime='torch'"):
        TextVideoScorer(folder, precision="int8")
    with pytest.raises(ValueError, match="runtime must be one of torch, onnx, got 'tensorrt'"):
        TextVideoScorer(folder, runtime="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the model is in bfloat16 on cpu: choose"):
        load_on_runtime(folder, runtime="onnx", dtype="bfloat16", device="cpu")
    model, processor = load_on_runtime(folder, runtime="onnx", device="cpu")
    with pytest.raises(ValueError, match="can't be saved"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no hidden states"):
        model.get_video_features(random_inputs()["pixel_values_videos"], output_hidden_states=True)
    with pytest.raises(ValueError, match="no hidden states"):
        model.get_video_features(vision_hidden_states=torch.zeros(1, 6, 17, 32), first_vision_layer=1)
    with pytest.raises(ValueError, match=r"expected frames of shape \(3, 32, 32\), got \(3, 64, 64\)"):
        model.get_video_features(torch.zeros(1, 2, 3, 64, 64), interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match="input_ids and attention_mask alone"):
        model.get_text_features(torch.zeros(1, 3).long(), output_attentions=True)
    with pytest.raises(ValueError, match="but this one is loaded"):
        TextVideoScorer(model, processor, runtime="onnx")
