"""Exported towers compared with the model, for any number of videos, frames, texts and words, with padding."""

import numpy as np
import pytest
import torch

from support.tiny_models import random_inputs, tiny_model, tiny_processor
from ts2net import TS2NetModel, TS2NetOnnx
from ts2net.cli import main
from ts2net.encoding.onnx_export import export_onnx
from ts2net.hub import save_hub_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> TS2NetModel:
    return tiny_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Model folder with the towers exported into it by the command."""
    folder = tmp_path_factory.mktemp("model")
    save_hub_folder(model, tiny_processor(model.config), folder)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), str(folder), "--int8"])
    assert ended.value.code == 0
    names = {"text_model.onnx", "text_model_quantized.onnx", "video_model.onnx", "video_model_quantized.onnx"}
    assert names == {file.name for file in (folder / "onnx").iterdir()}
    return folder


def scores(network, inputs):
    """Embeddings and scores from the three methods that both kinds of model have."""
    mask = inputs["padding_mask_videos"]
    with torch.inference_mode():
        text = network.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        video = network.get_video_features(inputs["pixel_values_videos"], mask)
        similarity = network.similarity(text.pooler_output, video.frame_embeds, mask)
    return [torch.as_tensor(each) for each in (text.pooler_output, video.pooler_output, similarity)]


@pytest.mark.parametrize(("videos", "frames", "texts"), [(1, 1, 1), (64, 2, 3), (3, 6, 1)])
def test_the_towers_compute_what_the_model_does(model, folder, videos, frames, texts):
    inputs = random_inputs(videos, frames, texts)
    inputs["padding_mask_videos"][0, 1:] = False
    for ours, expected in zip(scores(TS2NetOnnx.from_pretrained(folder), inputs), scores(model, inputs), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_int8_is_near(model, folder):
    inputs = random_inputs(8, 6, 8)
    ours = scores(TS2NetOnnx.from_pretrained(folder, precision="int8"), inputs)
    for our, expected in zip(ours[:2], scores(model, inputs)[:2], strict=True):
        assert torch.nn.functional.cosine_similarity(our, expected).mean() > 0.95  # the weights are random
        assert not torch.equal(our, expected)


def test_matching_is_that_of_the_model_whatever_its_kind(model, folder):
    """Scores agree for all kinds of matching, also for a video without real frames and in `released` padding mode."""
    texts, frames = torch.randn(5, 32), torch.randn(4, 6, 32)
    mask = torch.tensor([[True] * 6, [True] + [False] * 5, [False] * 6, [True, False] * 3])
    onnx = TS2NetOnnx.from_pretrained(folder)
    for overrides in ({}, {"matching_kind": "mean"}, {"padding_mode": "released"}):
        other = tiny_model(**overrides)
        onnx.config = other.config
        torch.testing.assert_close(
            torch.from_numpy(onnx.similarity(texts, frames, mask)), other.similarity(texts, frames, mask).detach()
        )


def test_wrong_shapes_are_refused(folder):
    onnx = TS2NetOnnx.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"shape \(videos, frames, 3, 32, 32\), got \(1, 2, 3, 16, 16\)"):
        onnx.get_video_features(np.zeros((1, 2, 3, 16, 16)))
    with pytest.raises(ValueError, match="at most 6 frames a video, got 7"):
        onnx.get_video_features(np.zeros((1, 7, 3, 32, 32)))
    with pytest.raises(ValueError, match="at most 16 words, got"):
        onnx.get_text_features(np.zeros((1, 17)))


def test_what_is_missing_or_damaged_is_named(folder, tmp_path, model):
    with pytest.raises(FileNotFoundError, match=r"has no onnx/video_model\.onnx: export it with `ts2net export"):
        TS2NetOnnx.from_pretrained(tmp_path)
    (tmp_path / "onnx").mkdir()
    for name in ("video_model", "text_model"):
        (tmp_path / "onnx" / f"{name}.onnx").write_bytes(b"not a graph")
    with pytest.raises(ValueError, match=r"cannot open .*video_model\.onnx"):
        TS2NetOnnx.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds another model"):
        export_onnx(tiny_model(shift_stride=4), tiny_processor(), folder)
    with pytest.raises(ValueError, match="expected float32 weights on the CPU, got bfloat16"):
        export_onnx(tiny_model().bfloat16(), tiny_processor(), folder)
