"""Any CLIP of transformers as a TS2-Net without new layers gives CLIP's scores, and other models are refused."""

import json
import logging

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.functional import normalize
from transformers import (
    AltCLIPConfig,
    AutoModel,
    BertConfig,
    ChineseCLIPConfig,
    CLIPModel,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    pipeline,
)

from support.tiny_models import random_inputs, spread_weights, tiny_clip, tiny_clip_config, tiny_tokenizer
from support.video_files import write_video
from ts2net import TextVideoScorer, TS2NetModel
from ts2net.hub import load_model
from ts2net.modeling_ts2net import check_is_clip

TEXTS = ["a dog runs", "two cats", "rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP in the format of the Hub."""
    path = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.3, 0.3, 0.3],
    }
    (path / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def metaclip(tmp_path_factory):
    """A MetaCLIP 2 with end-of-text id 2, as in the published models, and a tokenizer that differs from CLIP's."""
    path = tmp_path_factory.mktemp("metaclip")
    config = tiny_clip_config().to_dict()
    parts = {part: config[part] | {"model_type": None} for part in ("text_config", "vision_config")}
    for part in parts.values():
        del part["model_type"]
    parts["text_config"] |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = MetaClip2Model(MetaClip2Config(**parts, projection_dim=32)).eval()
    spread_weights(model)
    model.save_pretrained(path)
    words = ["<s>", "<pad>", "</s>", "<unk>", "собака", "犬", "dog", "rain"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos")
    return [str(write_video(path / f"{frames}.mp4", frames=frames, fps=10, size=(48, 40))) for frames in (10, 40)]


@torch.no_grad()
def scores_by_hand(clip, tokens, pixels, mask):
    """Compute scores with CLIP's own features: the mean of the cosines of a text and each frame. `(Q, B)`."""
    texts = normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)
    columns = []
    for frames, real in zip(pixels, mask, strict=True):
        images = normalize(clip.get_image_features(frames[real]).pooler_output, dim=-1)
        columns.append((texts @ images.t()).mean(dim=1))
    return clip.logit_scale.exp() * torch.stack(columns, dim=1)


def test_scores_are_those_of_clip_by_hand(folder, clips, caplog):
    scorer = TextVideoScorer(folder)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("ts2net")]
    assert line.startswith(f"{folder} is a CLIP and sees single frames: nothing in it is trained on video. To train")
    inputs = scorer.processor(text=TEXTS, videos=clips)
    tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    clip = CLIPModel.from_pretrained(folder).eval()
    expected = scores_by_hand(clip, tokens, inputs["pixel_values_videos"], inputs["padding_mask_videos"])
    assert not inputs["padding_mask_videos"].all()
    scored = torch.tensor([video.scores for video in scorer.score(clips, TEXTS)]).t()
    torch.testing.assert_close(scored, expected, atol=1e-5, rtol=0)


def test_nothing_is_added_to_it(folder):
    model = TS2NetModel.from_clip(folder, as_is=True)
    state, clip = model.state_dict(), CLIPModel.from_pretrained(folder).state_dict()
    assert state.keys() == clip.keys()
    assert all(torch.equal(state[name], value) for name, value in clip.items())
    assert TS2NetModel.from_clip(folder, as_is=True, matching_kind="weighted").config.matching_kind == "weighted"


def test_a_pipeline_takes_a_clip(folder, clips):
    expected = TextVideoScorer(folder).score(clips[0], TEXTS)[0]
    scorer = pipeline("text-video-scoring", model=str(folder), device="cpu")
    assert {row["text"]: row["score"] for row in scorer(clips[0], text=TEXTS)} == pytest.approx(
        dict(zip(TEXTS, expected.scores, strict=True)), abs=1e-4
    )


@pytest.mark.slow
@torch.no_grad()
def test_metaclip_2_computes_the_same_with_its_own_tokenizer(metaclip):
    model, processor = load_model(metaclip, device="cpu")
    original = AutoModel.from_pretrained(metaclip).eval()
    assert type(original) is MetaClip2Model
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in original.state_dict().items())
    assert isinstance(processor.tokenizer, PreTrainedTokenizerFast)
    tokens = processor(text=["собака dog", "犬", "rain dog dog"])
    assert tokens["input_ids"][0].tolist() == [0, 4, 6, 2, 1]
    inputs = random_inputs(videos=2)
    pixels, mask = inputs["pixel_values_videos"], inputs["padding_mask_videos"]
    mask[1, 2:] = False
    output = model(**tokens, pixel_values_videos=pixels, padding_mask_videos=mask)
    expected = scores_by_hand(original, tokens, pixels, mask)
    torch.testing.assert_close(output.logits_per_text, expected, atol=1e-5, rtol=0)
    trained = TS2NetModel.from_clip(metaclip, shift_stride=5, shift_offset=2)
    assert trained.temporal_encoder is not None
    assert trained.config.text_pooling == "eos"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BertConfig(), r"'x' is a 'bert' model; expected a TS2-Net or a CLIP, such as openai/clip-vit-base-patch32"),
        (SiglipConfig(), r"'x' is a 'siglip' model, whose frames have no \[CLS\] token"),
        (ChineseCLIPConfig(), r"'x' is a 'chinese_clip' model, whose text transformer is not CLIP's"),
        (AltCLIPConfig(), r"'x' is a 'altclip' model, whose text transformer is not CLIP's"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_is_no_clip_is_refused_in_a_sentence(config, reason):
    with pytest.raises(ValueError, match=reason):
        check_is_clip(config, "x")


def test_a_clip_with_further_tensors_is_refused(tmp_path):
    clip = tiny_clip()
    state = clip.state_dict() | {"decoder.weight": torch.ones(2)}
    clip.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match="is more than a CLIP: it also holds 'decoder.weight'$"):
        TS2NetModel.from_clip(tmp_path)


@pytest.mark.slow
def test_no_line_is_logged_for_a_model_that_is_to_be_trained(folder, caplog):
    caplog.set_level(logging.INFO, "ts2net")
    load_model(folder, device="cpu", clip_settings={"num_frames": 4, "shift_stride": 5, "shift_offset": 2})
    assert not [record for record in caplog.records if record.name == "ts2net.hub.loading"]
