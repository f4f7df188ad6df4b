"""The figure of an explanation shows all frames, weights and selected patches at the right positions."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from support.tiny_models import tiny_model, tiny_processor
from support.video_files import encoded
from ts2net.explanation import Explanation, explain
from ts2net.explanation import figure as explanation_figure
from ts2net.explanation.figure import _TEXT_COLORS, _Fonts, _lacks, _light, _wrapped, draw_explanation

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
STRANGE_TEXTS = [
    "",
    "Ein Fuß im Schnee – déjà vu",
    "Мальчик ловит рыбу",
    "男孩在河边钓鱼" * 40,
    "كلب يجري على الشاطئ",
    "नदी में नाव",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "a name that is no \udcff text",
    "\x00\x1b[31m\t\n\u202e",
    "https://" + "x" * 2000,
]


def explanation(
    texts: tuple[str, ...] = ("a dog",), frames: int = 4, size: tuple[int, int] = (32, 32), **changes: Any
) -> Explanation:
    """Create an explanation of noise frames, which are unique. Patches shift, and none is selected."""
    random = np.random.default_rng(0)
    weights = random.random((len(texts), frames))
    shifts = np.zeros((frames, size[0] // 8 * (size[1] // 8)), dtype=int)
    shifts[1:, ::5] = -1
    shifts[:-1, 2::5] = 1
    values: dict[str, Any] = {
        "texts": texts,
        "scores": tuple(range(len(texts))),
        "frames": random.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
        "seconds": tuple(range(frames)),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "selected_tokens": np.zeros((frames, 0), dtype=int),
        "patch_size": 8,
        "shifts": shifts,
    }
    return Explanation(**(values | changes))


def frame_corners(explained: Explanation, picture: Image.Image) -> list[tuple[int, int]]:
    """Return the top and left corner of each frame, which the picture contains once, enlarged by 7."""
    # One number per pixel, so that few positions match a frame's first pixel.
    canvas, *frames = (values.astype(int) @ [65536, 256, 1] for values in (np.asarray(picture), *explained.frames))
    corners = []
    for frame in frames:
        wanted = frame.repeat(7, axis=0).repeat(7, axis=1)
        height, width = wanted.shape
        candidates = [(int(top), int(left)) for top, left in np.argwhere(canvas == wanted[0, 0])]
        (corner,) = (
            (top, left) for top, left in candidates if np.array_equal(canvas[top:, left:][:height, :width], wanted)
        )
        corners.append(corner)
    return corners


def test_frames_stand_in_their_order() -> None:
    """Each frame is drawn once and whole, magnified by an integer, from left to right."""
    explained = explanation()
    corners = frame_corners(explained, draw_explanation(explained))
    assert len({top for top, _ in corners}) == 1
    assert corners == sorted(corners)


@pytest.mark.slow
def test_many_frames_are_wrapped_into_rows() -> None:
    """64 frames fill 8 rows of 8, at the frame size of a short video."""
    explained = explanation(frames=64)
    picture = draw_explanation(explained)
    corners = frame_corners(explained, picture)
    assert corners == sorted(corners)
    tops = [top for top, _ in corners]
    assert [tops.count(top) for top in sorted(set(tops))] == [8] * 8
    assert picture.width < 2000


@pytest.mark.parametrize(("frames", "rows"), [(1, [1]), (6, [6]), (7, [4, 3]), (12, [6, 6]), (20, [7, 7, 6])])
def test_rows_are_even(frames: int, rows: list[int]) -> None:
    explained = explanation(frames=frames)
    tops = [top for top, _ in frame_corners(explained, draw_explanation(explained))]
    assert [tops.count(top) for top in sorted(set(tops))] == rows


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (8, 8), (224, 224), (96, 224), (448, 336), (600, 450)])
def test_frames_of_every_shape_are_shown_at_a_like_size(size: tuple[int, int]) -> None:
    """Landscape, portrait, tiny and huge frames are drawn whole, with patches large enough for outlines."""
    explained = explanation(size=size, selected_tokens=np.ones((4, 1), dtype=int))
    assert 200 < draw_explanation(explained, shifted=True).height < 900


def test_bars_are_as_long_as_the_weights() -> None:
    """All texts share one scale, and the frame with the highest weight of each text is highlighted."""
    weights = np.array([[0.1, 0.2, 0.4, 0.3], [0.7, 0.05, 0.05, 0.2]])
    explained = explanation(("a dog", "a cat"), weights=weights)
    picture = draw_explanation(explained)
    room = 224 - 8 - 8 - 52 - 8  # without the digit, the percentage and two gaps
    for frame, (top, left) in enumerate(frame_corners(explained, picture)):
        below = np.asarray(picture)[top + 224 :, left : left + 224]
        for text, weight in enumerate(weights[:, frame]):
            color = _TEXT_COLORS[text] if weight == weights[text].max() else _light(_TEXT_COLORS[text])
            filled = (below == color).all(-1).sum(axis=1).max()  # digits have the same colour, but are narrow
            assert filled == pytest.approx(room * weight / 0.7, abs=2)


def test_selected_patches_are_outlined_and_no_others() -> None:
    """Outside the outlines, a frame is unchanged."""
    plain, chosen = explanation(), explanation(selected_tokens=np.array([[1, 6], [2, 3], [16, 4], [7, 8]]))
    before, after = (np.asarray(draw_explanation(explained)) for explained in (plain, chosen))
    for frame, (top, left) in enumerate(frame_corners(plain, draw_explanation(plain))):
        changed = (before[top : top + 224, left : left + 224] != after[top : top + 224, left : left + 224]).any(-1)
        expected = np.zeros((224, 224), dtype=bool)
        for x, y, right, bottom in chosen.selected_boxes(frame):
            expected[7 * y : 7 * bottom, 7 * x : 7 * right] = True
            expected[7 * y + 4 : 7 * bottom - 4, 7 * x + 4 : 7 * right - 4] = False
        assert expected.any()
        assert np.array_equal(changed, expected)


def test_shifted_patches_are_marked_on_request() -> None:
    """Patches from the previous and the next frame have different tints. The first and last frame lack one of them."""
    explained = explanation(frames=3)
    plain = draw_explanation(explained)
    marked = np.asarray(draw_explanation(explained, shifted=True)).astype(int)
    tints: dict[int, list[np.ndarray]] = {-1: [], 1: []}
    for frame, (top, left) in enumerate(frame_corners(explained, plain)):
        change = marked[top : top + 224, left : left + 224] - np.asarray(plain)[top : top + 224, left : left + 224]
        for source in (-1, 1):
            for x, y, right, bottom in explained.shifted_boxes(frame, source):
                patch = change[7 * y : 7 * bottom, 7 * x : 7 * right]
                assert patch.any(axis=-1).mean() > 0.9
                tints[source].append(patch.mean(axis=(0, 1)))
                change[7 * y : 7 * bottom, 7 * x : 7 * right] = 0
        assert not change.any()
    assert len(tints[-1]) == 2 * 4
    assert len(tints[1]) == 2 * 3
    for tint in tints[-1]:
        assert tint.argmin() == 0  # cyan reduces red
    for tint in tints[1]:
        assert tint.argmin() == 1  # magenta reduces green


def test_texts_are_told_apart_and_scored() -> None:
    """Texts, their order, scores and the title all change the picture."""
    pictures = [
        draw_explanation(explanation(("a dog", "a cat"))),
        draw_explanation(explanation(("a cat", "a dog"))),
        draw_explanation(explanation(("a dog", "a cat"), scores=(1.0, -12.34))),
        draw_explanation(explanation(("a dog", "a cat")), title="dog.mp4"),
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert pictures[0].tobytes() == draw_explanation(explanation(("a dog", "a cat"))).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("text", STRANGE_TEXTS)
def test_any_text_is_drawn(text: str) -> None:
    """Texts in any script, without glyphs in any font, with undecodable bytes, or of any length are drawn."""
    explained = explanation(("a dog", text), frames=2)
    picture = draw_explanation(explained, title=text)
    assert picture.width == draw_explanation(explanation(("a dog", "a"), frames=2)).width
    assert len(frame_corners(explained, picture)) == 2


def test_twenty_texts_have_twenty_bars() -> None:
    """With more texts than colours, colours repeat, and each text still has its own bar."""
    few, many = (draw_explanation(explanation(("a dog",) * number)) for number in (2, 20))
    assert many.height > few.height + 18 * 40


@pytest.mark.parametrize(
    "text", ["a dog runs on the beach " * 20, "男孩在河边钓鱼" * 40, "x" * 2000, "a " + "y" * 300]
)
def test_long_texts_wrap(text: str) -> None:
    """Texts wrap between words where possible, each line fits, and no character is lost."""
    font = _Fonts(None).for_text(text, 20)
    lines = _wrapped(text, font, 500)
    assert len(lines) > 1
    assert max(map(font.getlength, lines)) <= 500
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_font_is_found_that_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """English uses Pillow's built-in font, so that it looks the same everywhere. Other scripts use a font file."""
    monkeypatch.setattr(explanation_figure, "_FONT_FILES", ("no such font", str(FONT)))
    latin_font, other_font = (_Fonts(None).for_text(text, 20) for text in ("A dog, 12 %", "собака"))
    assert (_lacks(latin_font, "A dog, 12 %"), _lacks(latin_font, "собака")) == (0, 5)
    assert _lacks(other_font, "собака") == 0
    assert latin_font.getname() != other_font.getname() == ("DejaVu Sans", "Book")
    picture = draw_explanation(explanation(("собака",)), font=FONT)
    assert picture.tobytes() == draw_explanation(explanation(("собака",))).tobytes()
    assert draw_explanation(explanation(), font=FONT).tobytes() != draw_explanation(explanation()).tobytes()


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"selection_kind": "none"},
        {"shift_kind": "none", "selection_kind": "none", "matching_kind": "mean", "temporal_num_layers": 0},
        {"shift_kind": "channel"},
        {"padding_mode": "released"},
        {"matching_kind": "wti"},
    ],
)
def test_every_model_can_be_drawn(overrides: dict[str, Any]) -> None:
    """Explanations of all variants can be drawn. Marking shifted tokens is refused if the model shifts none."""
    model = tiny_model(**overrides)
    video = encoded(frames=40, fps=10, size=(48, 128), container="mp4")
    explained = explain(model, tiny_processor(model.config), video, ["a dog", "a cat"])
    draw_explanation(explained)
    if overrides.get("shift_kind") is None:
        draw_explanation(explained, shifted=True)
    else:
        with pytest.raises(ValueError, match="shifted: no layer of this model shifts whole tokens"):
            draw_explanation(explained, shifted=True)


def test_weights_that_are_all_in_padding_are_no_bars() -> None:
    """With `padding_mode="released"`, all weights of the real frames can be 0."""
    draw_explanation(explanation(weights=np.zeros((1, 4))))


@pytest.mark.parametrize("font", ["no such font.ttf", __file__])
def test_what_is_no_font_is_refused(font: str) -> None:
    with pytest.raises(ValueError, match="font: .* is no font file"):
        draw_explanation(explanation(), font=font)
