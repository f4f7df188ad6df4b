"""Word-token interaction: the paper's formula, padding, batches, and the outputs that explain a score."""

import pytest
import torch
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from support.tiny_models import random_inputs, tiny_clip, tiny_model, tiny_processor
from ts2net import TextVideoScorer, TS2NetModel, modeling_ts2net
from ts2net.encoding.onnx_export import export_onnx
from ts2net.encoding.texts import encode_texts
from ts2net.hub import save_hub_folder
from ts2net.modeling_ts2net import cat_texts


def of_words(**overrides):
    return tiny_model(matching_kind="wti", **overrides)


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits_per_text


def score_of_the_paper(words, frames, word_network, frame_network):
    """Compute the formula one word and one frame at a time: words `(W, D)` and frames `(T, D)` without padding."""

    def weights(tokens, network):
        logits = [network.fc2(network.fc1(token).clamp(min=0))[0].exp() for token in tokens]
        return [logit / sum(logits) for logit in logits]

    def cosine(word, frame):
        return word @ frame / word.norm() / frame.norm()

    of_words = sum(
        weight * max(cosine(word, frame) for frame in frames)
        for word, weight in zip(words, weights(words, word_network), strict=True)
    )
    of_frames = sum(
        weight * max(cosine(word, frame) for word in words)
        for frame, weight in zip(frames, weights(frames, frame_network), strict=True)
    )
    return (of_words + of_frames) / 2


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_scores_are_those_of_the_paper(seed):
    """Scores follow the formula for all lengths. The networks always read embeddings of length sqrt(D)."""
    model = of_words(seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    num_words, num_frames = ([int(n) for n in torch.randint(1, 7, (4,), generator=generator)] for _ in range(2))
    words = torch.zeros(4, 6, 32, dtype=torch.float64)
    frames, mask = torch.randn(4, 6, 32, dtype=torch.float64, generator=generator), torch.zeros(4, 6, dtype=torch.bool)
    for text, length in enumerate(num_words):
        words[text, :length] = torch.randn(length, 32, dtype=torch.float64, generator=generator)
    for video, length in enumerate(num_frames):
        mask[video, torch.randperm(6, generator=generator)[:length]] = True
    words, frames = (32**0.5 * torch.nn.functional.normalize(tokens, dim=-1) for tokens in (words, frames))
    networks = model.word_interaction
    expected = torch.stack(
        [
            torch.stack(
                [
                    score_of_the_paper(text[:length], video[real], networks.word_scorer, networks.frame_scorer)
                    for video, real in zip(frames, mask, strict=True)
                ]
            )
            for text, length in zip(words, num_words, strict=True)
        ]
    )
    scores = model.similarity(words, frames, mask) / model.logit_scale.exp()
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(model.similarity(3 * words, frames / 7, mask) / model.logit_scale.exp(), expected)


def test_padding_changes_nothing():
    """Neither tokens after the end of text nor padding frames have an effect, whatever they contain."""
    model, inputs = of_words(), random_inputs(frames=4)
    expected = logits(model, inputs)
    ids = torch.cat([inputs["input_ids"], torch.tensor([[5, 1, 30]] * 3)], dim=1)
    for mask in (None, torch.arange(12).expand(3, 12) < 9):
        torch.testing.assert_close(logits(model, inputs | {"input_ids": ids, "attention_mask": mask}), expected)
    noise = torch.full((3, 2, 3, 32, 32), torch.nan)
    padded = {
        "pixel_values_videos": torch.cat([inputs["pixel_values_videos"], noise], dim=1),
        "padding_mask_videos": torch.cat([inputs["padding_mask_videos"], torch.zeros(3, 2, dtype=torch.bool)], dim=1),
    }
    torch.testing.assert_close(logits(model, inputs | padded), expected, atol=1e-5, rtol=1e-5)


def test_a_text_without_words_and_a_video_without_frames_score_zero():
    model, inputs = of_words(), random_inputs()
    inputs["padding_mask_videos"][1] = False
    inputs["attention_mask"][2] = 0
    scores = logits(model, inputs)
    assert (scores[:, 1] == 0).all()
    assert (scores[2] == 0).all()
    assert (scores[:2, [0, 2]] != 0).all()


def test_texts_of_several_lengths_encode_as_each_alone():
    model = of_words()
    processor = tiny_processor(model.config)
    texts = ["a dog", "a dog catches it", "x"]
    alone = encode_texts(model, processor, texts)
    together = encode_texts(model, processor, texts, max_words=16)
    assert alone.shape == (3, 15, 32)  # letters, the start and the end
    assert together.shape == (3, 16, 32)
    torch.testing.assert_close(cat_texts([alone, together])[:3], together)
    frames = torch.randn(2, 5, 32)
    torch.testing.assert_close(model.similarity(alone, frames), model.similarity(together, frames))


@pytest.mark.parametrize("elements", [1, 100, 700])
def test_chunks_change_nothing(monkeypatch, elements):
    model, words, frames = of_words(), torch.randn(5, 4, 32), torch.randn(6, 3, 32)
    mask = torch.rand(6, 3) > 0.4
    expected = model.similarity(words, frames, mask)
    monkeypatch.setattr(modeling_ts2net, "_CHUNK_ELEMENTS", elements)
    torch.testing.assert_close(model.similarity(words, frames, mask), expected)


@torch.no_grad()
def test_words_and_frames_make_up_the_score():
    """Each word's frame is the one with the highest cosine, and the frame weights sum to 1."""
    model, inputs = of_words(), random_inputs()
    inputs["padding_mask_videos"][0, 3:] = False
    outputs = model(**inputs, output_frame_weights=True)
    matches = model.word_matches(outputs.word_embeds, outputs.video_embeds, inputs["padding_mask_videos"])
    cosines = torch.einsum("qwd,btd->qbwt", outputs.word_embeds, outputs.video_embeds)
    cosines[:, 0, :, 3:] = -2
    assert torch.equal(matches.frames, cosines.argmax(dim=-1))
    torch.testing.assert_close(matches.cosines, cosines.amax(dim=-1))
    torch.testing.assert_close(matches.weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(outputs.frame_weights.sum(dim=-1), torch.ones(3, 3))
    assert (outputs.frame_weights[:, 0, 3:] == 0).all()
    best = model.best_frames(outputs.word_embeds, outputs.video_embeds, inputs["padding_mask_videos"])
    assert torch.equal(best, torch.einsum("qbwt,qw->qbt", cosines, matches.weights).argmax(dim=-1))


def test_one_vector_a_text_and_a_video_is_as_without_words():
    words, plain, inputs = of_words(), tiny_model(), random_inputs()
    words.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for name in ("text_embeds", "video_embeds"):
            assert torch.equal(words(**inputs)[name], plain(**inputs)[name])


def test_starts_from_clip_with_nearly_equal_weights():
    model = TS2NetModel.from_clip_model(tiny_clip(), matching_kind="wti", num_frames=6)
    with torch.no_grad():
        weights = model.word_matches(torch.randn(3, 5, 32), torch.randn(2, 4, 32)).weights
    assert (weights - 0.2).abs().max() < 0.05
    assert weights.unique().numel() > 3


def test_a_saved_folder_scores_alike_from_its_own_code(tmp_path):
    model, inputs = of_words(), random_inputs()
    save_hub_folder(model, tiny_processor(model.config), tmp_path / "model")
    assert (tmp_path / "model" / "word_interaction_ts2net.py").exists()
    of_package = TS2NetModel.from_pretrained(tmp_path / "model")
    of_folder = get_class_from_dynamic_module("modeling_ts2net.TS2NetModel", tmp_path / "model").from_pretrained(
        tmp_path / "model"
    )
    assert type(of_folder) is not TS2NetModel
    for loaded in (of_package, of_folder):  # the memory address of a weight may change the last bit of a sum
        torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), rtol=1e-6, atol=1e-6)


def test_the_scorer_scores_texts_of_any_length(tmp_path):
    model = of_words()
    videos = torch.randint(0, 256, (2, 6, 3, 32, 32), dtype=torch.uint8)
    scorer = TextVideoScorer(model, tiny_processor(model.config))
    texts = ["a dog", "a dog catches it", "x"]
    together = [video.scores for video in scorer.score(list(videos), texts)]
    alone = [video.scores[0] for text in texts for video in scorer.score(list(videos), text)]
    torch.testing.assert_close(torch.tensor(together).t().flatten(), torch.tensor(alone))


@pytest.mark.parametrize(("kind", "shape"), [("wti", (2, 32)), ("weighted", (2, 3, 32))])
def test_embeddings_of_the_other_kind_are_refused(kind, shape):
    with pytest.raises(ValueError, match=f"with matching_kind='{kind}' text_embeds must be"):
        tiny_model(matching_kind=kind).similarity(torch.randn(shape), torch.randn(2, 4, 32))
    if kind == "weighted":
        with pytest.raises(ValueError, match="needs 'wti'"):
            tiny_model().word_matches(torch.randn(shape), torch.randn(2, 4, 32))


def test_it_is_not_exported_to_onnx(tmp_path):
    model = of_words()
    with pytest.raises(ValueError, match="matching_kind='wti' cannot be exported to ONNX"):
        export_onnx(model, tiny_processor(model.config), tmp_path / "onnx")
