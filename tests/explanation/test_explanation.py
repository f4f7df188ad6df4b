"""An explanation shows the frames, weights and selected patches that the model used."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.tiny_models import tiny_config, tiny_model, tiny_processor
from support.video_files import encoded, write_video
from ts2net.explanation import Explanation, draw_frame, explain, explain_frames, found_words, patch_boxes

TEXTS = ["a dog", "a cat on a mat"]


def explained(video: Any, **overrides: Any) -> Explanation:
    model = tiny_model(**overrides)
    return explain(model, tiny_processor(model.config), video, TEXTS)


@pytest.fixture(scope="module")
def video() -> bytes:
    """Four seconds of video, which give four frames."""
    return encoded(frames=40, fps=10, size=(64, 48), container="mp4")


def test_it_is_what_the_model_computes(video: bytes) -> None:
    """Scores, weights and selections equal those of the model's forward pass. The weights of each text sum to 1."""
    model = tiny_model()
    processor = tiny_processor(model.config)
    explanation = explain(model, processor, video, TEXTS)
    outputs = model(**processor(text=TEXTS, videos=[video]), output_frame_weights=True)
    assert explanation.texts == tuple(TEXTS)
    assert explanation.scores == pytest.approx(outputs.logits_per_text[:, 0].tolist())
    assert explanation.weights == pytest.approx(outputs.frame_weights[:, 0].detach().numpy())
    assert explanation.weights.shape == (2, 4)
    assert explanation.weights.sum(axis=1) == pytest.approx([1, 1])
    assert np.ptp(explanation.weights, axis=1).min() > 0.001  # otherwise the weights would be uniform
    assert explanation.selected_tokens.tolist() == outputs.selected_token_indices[0].tolist()
    assert explanation.seconds == (0, 1, 2, 3)


@pytest.mark.parametrize("normalised", [True, False])
def test_frames_are_those_that_the_model_sees(video: bytes, normalised: bool) -> None:
    """Frames are bit-identical to the resized and cropped input, however the processor normalises it."""
    model = tiny_model()
    processor = tiny_processor(model.config)
    expected = processor.video_processor([video], do_rescale=False, do_normalize=False)["pixel_values_videos"][0]
    processor.video_processor.do_normalize = processor.video_processor.do_rescale = normalised
    frames = explain(model, processor, video, TEXTS).frames
    assert (frames.shape, frames.dtype) == ((4, 32, 32, 3), np.uint8)
    assert np.array_equal(frames, expected.permute(0, 2, 3, 1).to(torch.uint8).numpy())


def test_boxes_follow_the_grid() -> None:
    """In a grid of 4 x 4 patches of 8 pixels, tokens 1, 4, 5 and 16 get the boxes at their positions."""
    assert patch_boxes([1, 4, 5, 16], frame_width=32, patch_size=8) == [
        (0, 0, 8, 8),
        (24, 0, 32, 8),
        (0, 8, 8, 16),
        (24, 24, 32, 32),
    ]


def test_a_box_holds_the_pixels_of_its_token() -> None:
    """Changing the pixels in a box changes only the embedding of its token."""
    embed = tiny_model().vision_model.embeddings
    frame = torch.zeros(1, 3, 32, 32)
    for token in range(1, 17):
        ((left, top, right, bottom),) = patch_boxes([token], frame_width=32, patch_size=8)
        changed = frame.clone()
        changed[..., top:bottom, left:right] = 1
        difference = (embed(changed) - embed(frame)).abs().sum(-1)[0]
        assert difference.nonzero().flatten().tolist() == [token]


def test_selected_patches_are_outlined_and_no_others(video: bytes) -> None:
    """On the magnified frame, only pixels along the edges of the selected boxes differ."""
    explanation = explained(video)
    drawn = np.asarray(draw_frame(explanation, 1, min_side=160))
    assert drawn.shape == (160 + 8, 160, 3)
    magnified = explanation.frames[1].repeat(5, axis=0).repeat(5, axis=1)
    expected = np.zeros((160, 160), dtype=bool)
    for left, top, right, bottom in explanation.selected_boxes(1):
        expected[5 * top : 5 * bottom, 5 * left : 5 * right] = True
        expected[5 * top + 4 : 5 * bottom - 4, 5 * left + 4 : 5 * right - 4] = False
    assert expected.any()
    assert np.array_equal((drawn[:160] != magnified).any(axis=-1), expected)


def test_the_bar_is_as_long_as_the_weight(video: bytes) -> None:
    """A bar's length is proportional to the weight. The bar of the highest weight has the full width."""
    explanation = explained(video)
    for text, weights in enumerate(explanation.weights):
        for frame, weight in enumerate(weights):
            bar = np.asarray(draw_frame(explanation, frame, text))[-1]
            length = (bar == bar[0]).all(axis=-1).sum()
            assert length == pytest.approx(160 * weight / weights.max(), abs=0.51)


@pytest.mark.parametrize(
    "overrides",
    [
        {"selection_kind": "none"},
        {"shift_kind": "none", "selection_kind": "none", "matching_kind": "mean", "temporal_num_layers": 0},
        {"selection_kind": "random"},
        {"padding_mode": "released"},
        {"matching_kind": "wti"},
    ],
)
def test_every_variant_can_be_explained(video: bytes, overrides: dict[str, Any]) -> None:
    """Each frame has as many outlines as the model selects patches, so none without selection."""
    explanation = explained(video, **overrides)
    chosen = 0 if overrides.get("selection_kind") == "none" else 3
    assert [len(explanation.selected_boxes(frame)) for frame in range(4)] == [chosen] * 4
    assert draw_frame(explanation, 3).size == (160, 168)
    if overrides.get("matching_kind") == "mean":
        assert explanation.weights == pytest.approx(np.full((2, 4), 0.25))


def test_each_word_has_found_a_frame(video: bytes) -> None:
    """Each token has the frame that the model matched to it. Without word-token interaction there are no words."""
    model = tiny_model(matching_kind="wti")
    processor = tiny_processor(model.config)
    explanation = explain(model, processor, video, ["a dog", "x"])
    assert explanation.words is not None
    names = [[word.word for word in words] for words in explanation.words]
    assert names == [
        ["<|startoftext|>", "a", "d", "o", "g", "<|endoftext|>"],
        ["<|startoftext|>", "x", "<|endoftext|>"],
    ]
    outputs = model(**processor(text=["a dog", "x"], videos=[video]))
    matches = model.word_matches(outputs.word_embeds, outputs.video_embeds)
    for text, words in enumerate(explanation.words):
        assert [word.frame for word in words] == matches.frames[text, 0, : len(words)].tolist()
        assert [word.cosine for word in words] == pytest.approx(matches.cosines[text, 0, : len(words)].tolist())
        assert sum(word.weight for word in words) == pytest.approx(1)
    assert explanation.weights.sum(axis=1) == pytest.approx([1, 1])
    assert found_words(explanation, 1).startswith("<|startoftext|> 0:0")
    without = explained(video)
    assert without.words is None
    with pytest.raises(ValueError, match="no word-token interaction"):
        found_words(without)


def test_long_and_portrait_videos(tmp_path: Path) -> None:
    """A long video is sampled to the model's number of frames, and a portrait video is cropped to its centre."""
    long = explained(write_video(tmp_path / "long.mp4", frames=120, fps=3))
    assert len(long.frames) == len(long.seconds) == long.weights.shape[1] == tiny_config().num_frames
    assert long.seconds[0] == 0
    assert long.seconds[-1] > 30
    portrait = explained(write_video(tmp_path / "portrait.mp4", frames=12, fps=3, size=(48, 128)))
    assert portrait.frames.shape == (4, 32, 32, 3)
    assert portrait.weights.sum(axis=1) == pytest.approx([1, 1])


def test_padding_is_not_shown(video: bytes) -> None:
    """Padding frames of a processor that pads to the model's length are not part of the explanation."""
    model = tiny_model()
    processor = tiny_processor(model.config)
    processor.video_processor.pad_to = "num_frames"
    explanation = explain(model, processor, video, TEXTS)
    assert len(explanation.frames) == len(explanation.selected_tokens) == 4
    assert explanation.weights.sum(axis=1) == pytest.approx([1, 1])


def test_a_moment_of_a_video(video: bytes) -> None:
    model = tiny_model()
    moment = explain(model, tiny_processor(model.config), video, TEXTS, start=1, end=2)
    assert moment.seconds == (1, 2)


def test_the_seconds_of_a_moment_are_those_of_a_player() -> None:
    """Times are those of a player, even with the released clock, whose second has 11 frames here."""
    model = tiny_model()
    processor = tiny_processor(model.config)
    processor.video_processor.clock = "released"
    video = encoded(frames=48, fps=Fraction(12000, 1001), size=(64, 48), container="mp4")
    assert explain(model, processor, video, TEXTS, start=3, end=3).seconds == pytest.approx([35 * 1001 / 12000])
    assert explain(model, processor, video, TEXTS).seconds[1] == pytest.approx(11 * 1001 / 12000)


def test_frames_that_were_chosen_elsewhere(video: bytes) -> None:
    """Frames that are passed in give the same explanation as their video, without the processor's padding."""
    model = tiny_model()
    processor = tiny_processor(model.config)
    expected = explain(model, processor, video, TEXTS, start=1, end=2)
    processor.video_processor.pad_to = "num_frames"
    frames = expected.frames.transpose(0, 3, 1, 2)
    explanation = explain_frames(model, processor, frames, expected.seconds, TEXTS)
    assert explanation.scores == pytest.approx(expected.scores)
    assert explanation.seconds == expected.seconds
    assert np.array_equal(explanation.frames, expected.frames)
    assert np.array_equal(explanation.selected_tokens, expected.selected_tokens)
    with pytest.raises(ValueError, match="seconds must be one a frame, got 1 for 2 frames"):
        explain_frames(model, processor, frames, [0.0], TEXTS)


def test_nothing_is_random_in_it(video: bytes) -> None:
    """A model in training mode is explained without the noise of its selection."""
    model = tiny_model().train()
    first, second = (explain(model, tiny_processor(model.config), video, TEXTS) for _ in range(2))
    assert first.scores == second.scores


def test_what_cannot_be_explained_is_refused(video: bytes) -> None:
    model = tiny_model()
    processor = tiny_processor(model.config)
    with pytest.raises(ValueError, match="at least one text"):
        explain(model, processor, video, [])
    with pytest.raises(ValueError, match="not a video"):
        explain(model, processor, io.BytesIO(b"no video"), TEXTS)
    with torch.no_grad():
        model.text_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        explain(model, processor, video, TEXTS)


def test_shifts_say_where_each_patch_comes_from(video: bytes) -> None:
    """With stride 5 and offset 2, tokens 1, 6, 11, 16 come from the previous frame and 3, 8, 13 from the next."""
    before, after = np.zeros(16, dtype=int), np.zeros(16, dtype=int)
    before[[0, 5, 10, 15]] = -1
    after[[2, 7, 12]] = 1
    explanation = explained(video)
    assert explanation.shifts is not None
    assert explanation.shifts.tolist() == [row.tolist() for row in (after, before + after, before + after, before)]
    assert explanation.shifted_boxes(1, -1) == patch_boxes([1, 6, 11, 16], frame_width=32, patch_size=8)
    assert explanation.shifted_boxes(1, 1) == patch_boxes([3, 8, 13], frame_width=32, patch_size=8)
    assert explanation.shifted_boxes(0, -1) == explanation.shifted_boxes(3, 1) == []


def test_the_last_frame_takes_from_padding_where_the_model_does(video: bytes) -> None:
    """With the released padding, tokens come from padding frames, and the explanation shows it."""
    for padding_mode, number in (("masked", 0), ("released", 3)):
        model = tiny_model(padding_mode=padding_mode)
        processor = tiny_processor(model.config)
        processor.video_processor.pad_to = "num_frames"
        assert len(explain(model, processor, video, TEXTS).shifted_boxes(3, 1)) == number


@pytest.mark.parametrize("overrides", [{"shift_kind": "none"}, {"shift_kind": "channel"}, {"shift_layers": []}])
def test_a_model_that_shifts_no_tokens_has_none(video: bytes, overrides: dict[str, Any]) -> None:
    explanation = explained(video, **overrides)
    assert explanation.shifts is None
    with pytest.raises(ValueError, match="shifts whole tokens"):
        explanation.shifted_boxes(0, 1)
