"""Figure of an explanation: the frames in rows, and below each frame its weight for every text.

The figure is composed of smaller pictures, side by side or one below the other, so a part is drawn independently of
its position. No information is given by colour alone: texts are numbered, and shifted patches have arrows. Texts are
drawn in Pillow's default font, or in an installed font if it has more of their characters.
"""

import contextlib
import math
import os
from collections.abc import Sequence
from typing import cast

from PIL import Image, ImageDraw, ImageFont

from ..clock import clock
from .drawing import found_words, outline
from .explaining import Box, Explanation

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont

_FRAME_SIDE = 224  # target length of the longer side of a drawn frame, in pixels
_MIN_PATCH_SIDE = 8  # in pixels, so that some of a drawn patch is visible inside its outline
_MIN_TILE_WIDTH = 150
_MIN_COLUMNS, _MAX_COLUMNS = 6, 8  # limits of a figure with more than one row
_MIN_CONTENT_WIDTH = 760  # space for the texts if there are only a few frames
_MARGIN, _GAP, _NEAR = 28, 16, 8
_LARGE, _MIDDLE, _SMALL = 20, 16, 14  # font sizes
_CHIP = 26  # side of the square with a text's number
_BAR_HEIGHT, _PERCENT_WIDTH = 10, 52

_PAPER, _INK, _FADED, _TRACK = (255, 255, 255), (27, 27, 32), (98, 98, 108), (232, 232, 236)
# Okabe and Ito's colours for colour-blind people, without the colours that are too light for white digits.
_TEXT_COLORS: tuple[Color, ...] = ((0, 114, 178), (213, 94, 0), (0, 140, 100), (170, 80, 140), (90, 90, 90))
_BEFORE_COLOR, _AFTER_COLOR = (0, 200, 255), (255, 60, 220)
_TINT = 0.35  # opacity of the colour on a shifted patch

# Files of fonts with many characters on common systems. A text is drawn with the font that has most of its characters.
_FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "Nirmala.ttc",
    "LeelawUI.ttf",
)
_NO_CHARACTER = "\U0010ffff"  # a noncharacter, which shows how a font draws missing characters


def draw_explanation(
    explanation: Explanation,
    *,
    title: str | None = None,
    shifted: bool = False,
    font: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the sampled frames of a video, and the weight of each frame for each text.

    The time of a frame is written below it, and its selected patches are outlined. Below a frame every text has a bar,
    whose length is the frame's weight relative to the largest weight in the figure. The bar of the frame with the
    largest weight for a text is darker.

    Args:
        explanation: Explanation of the video and the texts.
        title: A line above the texts, such as the video's name.
        shifted: Also mark the patches that layers with token shift take from the frame before or after.
        font: A font file for the title and the texts, or the name of an installed font. The default is Pillow's
            font, or the installed font with most characters of a text. A character that the font lacks becomes a box.

    Returns:
        The RGB figure: at most 8 frames wide, usually up to about 2000 pixels, and as high as needed.

    Raises:
        ValueError: If `shifted` is set and the model does not shift whole tokens, or `font` is not a font.
    """
    if shifted and explanation.shifts is None:
        raise ValueError("shifted: no layer of this model shifts whole tokens, so there are none to mark")
    fonts = _Fonts(font)
    frames = _frames(explanation, shifted)
    width = max(frames.width, _MIN_CONTENT_WIDTH)
    texts = _texts(explanation, fonts, width)
    if title is not None:
        texts = _below([_paragraph(title, fonts.for_text(title, _MIDDLE), width, _FADED), texts], _NEAR)
    return _framed(_below([texts, frames, _legend(explanation, shifted, width)], _MARGIN), _MARGIN)


def read_font(file: str | os.PathLike[str], size: int = _LARGE) -> Font:
    """Read a font file.

    Args:
        file: Path of the font file, or the file name of an installed font.
        size: Font size in pixels.

    Raises:
        ValueError: If there is no such font.
    """
    try:
        return ImageFont.truetype(file, size)
    except OSError:
        raise ValueError(f"font: {os.fspath(file)} is no font file, nor the file name of an installed font") from None


# ----------------------------------------------------------------------------------------------------------------
# Parts
# ----------------------------------------------------------------------------------------------------------------


def _texts(explanation: Explanation, fonts: "_Fonts", width: int) -> Image.Image:
    """Draw the texts, one below the other, each with its number and score."""
    scores = [_label(f"{score:.2f}", _LARGE, _INK, height=_CHIP) for score in explanation.scores]
    widest = max(score.width for score in scores)
    lines = []
    for number, (text, score) in enumerate(zip(explanation.texts, scores, strict=True)):
        chip = [_chip(number)] if len(scores) > 1 else []
        word = _label("score", _SMALL, _FADED, height=_CHIP)
        aligned = Image.new("RGB", (widest, _CHIP), _PAPER)
        aligned.paste(score, (widest - score.width, 0))
        left = _beside([*chip, word, aligned], _NEAR)
        words = _paragraph(text, fonts.for_text(text, _LARGE), width - left.width - _GAP, _INK)
        lines.append(_beside([left, words], _GAP))
        if explanation.words is not None:
            words_line = found_words(explanation, number)
            room = width - left.width - _GAP
            indent = Image.new("RGB", (left.width, 1), _PAPER)
            lines.append(
                _beside([indent, _paragraph(words_line, fonts.for_text(words_line, _MIDDLE), room, _FADED)], _GAP)
            )
    return _below(lines, _NEAR)


def _frames(explanation: Explanation, shifted: bool) -> Image.Image:
    """Draw all frames, in rows of nearly equal length."""
    tiles = [_tile(explanation, frame, shifted) for frame in range(len(explanation.frames))]
    # Many frames are drawn in several rows, because they would be too small to see in a single row.
    most = min(max(math.ceil(math.sqrt(3 * len(tiles))), _MIN_COLUMNS), _MAX_COLUMNS)
    rows = math.ceil(len(tiles) / most)
    columns = math.ceil(len(tiles) / rows)
    return _below([_beside(tiles[first : first + columns], _GAP) for first in range(0, len(tiles), columns)], _MARGIN)


def _tile(explanation: Explanation, frame: int, shifted: bool) -> Image.Image:
    """Draw a frame with its time and one bar for each text."""
    picture = _frame(explanation, frame, shifted)
    longest = float(explanation.weights.max())
    lines = [_label(clock(explanation.seconds[frame]), _SMALL, _INK)]
    for number, weights in enumerate(explanation.weights):
        weight, is_heaviest = float(weights[frame]), frame == weights.argmax()
        before = [_label(str(number + 1), _SMALL, _color(number))] if len(explanation.weights) > 1 else []
        after = _label(f"{100 * weight:.1f} %", _SMALL, _INK if is_heaviest else _FADED, width=_PERCENT_WIDTH)
        room = max(picture.width, _MIN_TILE_WIDTH) - sum(label.width + _NEAR for label in [*before, after])
        share = weight / longest if longest > 0 else 0.0  # padding frames may have all the weight
        bar = _bar(room, after.height, share, _color(number) if is_heaviest else _light(_color(number)))
        lines.append(_beside([*before, bar, after], _NEAR))
    return _below([picture, _below(lines, 0)], 4)


def _frame(explanation: Explanation, frame: int, shifted: bool) -> Image.Image:
    """Draw a frame at its size in the figure, with its patches marked."""
    picture = Image.fromarray(explanation.frames[frame])
    scale = max(_FRAME_SIDE / max(picture.size), _MIN_PATCH_SIDE / explanation.patch_size)
    if scale > 1:  # an integer factor, so that the pixels of the model's input are visible
        scale = int(scale)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)

    def scaled(box: Box) -> Box:
        left, top, right, bottom = (round(edge * scale) for edge in box)
        return left, top, right, bottom

    if shifted:
        for source, color in ((-1, _BEFORE_COLOR), (1, _AFTER_COLOR)):
            for box in explanation.shifted_boxes(frame, source):
                _mark_shifted(picture, scaled(box), source, color)
    for box in explanation.selected_boxes(frame):
        outline(picture, scaled(box))
    return picture


def _mark_shifted(picture: Image.Image, box: Box, source: int, color: Color) -> None:
    """Tint a patch and draw an arrow on it that points towards its source frame."""
    patch = picture.crop(box)
    picture.paste(Image.blend(patch, Image.new("RGB", patch.size, color), _TINT), box)
    left, top, right, bottom = box
    x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
    half = (right - left) / 5
    arrow = [(x + source * half, y), (x - source * half, y - half * 1.2), (x - source * half, y + half * 1.2)]
    ImageDraw.Draw(picture).polygon(arrow, fill=color, outline=(0, 0, 0) if half > 4 else None)


def _legend(explanation: Explanation, shifted: bool, width: int) -> Image.Image:
    """Draw the legend of the marks."""
    side = _CHIP
    entries = [(_bar(2 * side, side, 0.6, _FADED), "weight in the score, dark for the heaviest frame")]
    if explanation.selected_tokens.shape[1]:
        box = Image.new("RGB", (side, side), _TRACK)
        outline(box, (0, 0, side, side))
        entries.append((box, "patch selected for the temporal encoder"))
    if shifted:
        for source, color, name in ((-1, _BEFORE_COLOR, "before"), (1, _AFTER_COLOR, "after")):
            patch = Image.new("RGB", (side, side), _TRACK)
            _mark_shifted(patch, (0, 0, side, side), source, color)
            entries.append((patch, f"token taken from the frame {name}"))
    items = [_beside([mark, _label(words, _SMALL, _FADED, height=side)], _NEAR) for mark, words in entries]
    rows: list[list[Image.Image]] = [[]]
    for item in items:
        if rows[-1] and sum(other.width + _MARGIN for other in rows[-1]) + item.width > width:
            rows.append([])
        rows[-1].append(item)
    return _below([_beside(row, _MARGIN) for row in rows], _NEAR)


def _chip(number: int) -> Image.Image:
    """Draw the number of a text, from 1, on the text's colour."""
    picture = Image.new("RGB", (_CHIP, _CHIP), _color(number))
    middle = (_CHIP / 2, _CHIP / 2)
    ImageDraw.Draw(picture).text(middle, str(number + 1), _PAPER, _default_font(_MIDDLE), anchor="mm")
    return picture


def _bar(width: int, height: int, share: float, color: Color) -> Image.Image:
    """Draw a horizontal bar, centred vertically and filled up to `share`."""
    picture = Image.new("RGB", (width, height), _PAPER)
    top, bottom = (height - _BAR_HEIGHT) // 2, (height + _BAR_HEIGHT) // 2
    picture.paste(_TRACK, (0, top, width, bottom))
    picture.paste(color, (0, top, round(width * share), bottom))
    return picture


def _label(words: str, size: int, color: Color, *, width: int | None = None, height: int | None = None) -> Image.Image:
    """Draw a label of the figure in one line, aligned to the right and centred vertically."""
    font = _default_font(size)
    text_width = math.ceil(font.getlength(words))
    picture = Image.new("RGB", (max(text_width, width or 0), height or round(1.4 * size)), _PAPER)
    ImageDraw.Draw(picture).text((picture.width - text_width, picture.height / 2), words, color, font, anchor="lm")
    return picture


def _paragraph(text: str, font: Font, width: int, color: Color) -> Image.Image:
    """Draw a user's text, in as many lines as needed."""
    lines = _wrapped(text, font, width)
    line_height = max(sum(font.getmetrics()), _CHIP)
    picture = Image.new("RGB", (width, line_height * len(lines)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((0, (number + 0.5) * line_height), line, color, font, anchor="lm")
    return picture


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines between words, and inside a word that is wider than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


class _Fonts:
    """Fonts of a figure. Installed fonts are searched for only once, if they are needed."""

    def __init__(self, file: str | os.PathLike[str] | None) -> None:
        self._file = file
        self._installed: dict[int, list[Font]] = {}

    def for_text(self, text: str, size: int) -> Font:
        """Return the font that has most characters of a text."""
        if self._file is not None:
            return read_font(self._file, size)
        default = _default_font(size)
        if not _lacks(default, text):
            return default
        if size not in self._installed:
            self._installed[size] = _installed_fonts(size)
        return min([*self._installed[size], default], key=lambda font: _lacks(font, text))


def _default_font(size: int) -> Font:
    """Return Pillow's default font, which needs no file and has the characters of English."""
    return cast(Font, ImageFont.load_default(size))  # with a size, the font always has this type


def _installed_fonts(size: int) -> list[Font]:
    fonts = []
    for name in _FONT_FILES:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return fonts


def _lacks(font: Font, text: str) -> int:
    """Count the characters of a text that a font lacks."""
    box = bytes(font.getmask(_NO_CHARACTER))
    return sum(bytes(font.getmask(character)) == box for character in set(text) if not character.isspace())


def _color(number: int) -> Color:
    return _TEXT_COLORS[number % len(_TEXT_COLORS)]


def _light(color: Color) -> Color:
    red, green, blue = ((channel + _PAPER[0]) // 2 for channel in color)
    return red, green, blue


# ----------------------------------------------------------------------------------------------------------------
# Composition of pictures
# ----------------------------------------------------------------------------------------------------------------


def _beside(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """Join pictures from left to right, aligned at the top."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), _PAPER)
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + gap
    return whole


def _below(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """Join pictures from top to bottom, aligned at the left."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (max(picture.width for picture in pictures), height), _PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height + gap
    return whole


def _framed(picture: Image.Image, margin: int) -> Image.Image:
    whole = Image.new("RGB", (picture.width + 2 * margin, picture.height + 2 * margin), _PAPER)
    whole.paste(picture, (margin, margin))
    return whole
