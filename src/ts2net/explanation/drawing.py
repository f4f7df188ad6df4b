"""Drawing of the frames of an explanation as small pictures, for pages and figures."""

import io
import math
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from ..clock import clock
from .explaining import Box, Explanation

_OUTLINE, _SHADOW = (255, 214, 0), (0, 0, 0)  # one of the two is visible on any picture
_BAR, _TRACK = (240, 120, 30), (128, 128, 128)  # visible on dark and on light pages
_BAR_HEIGHT = 8  # pixels


@dataclass(frozen=True)
class DrawnFrame:
    """Picture of a frame, with its time and weight, for a page.

    Args:
        picture: Bytes of the image file.
        media_type: Media type of the file.
        time: Time of the frame, such as "1:15", or "1:15.2" if two frames of the video share a second.
        weight: Weight of the frame in the score, from 0 to 1.
    """

    picture: bytes
    media_type: str
    time: str
    weight: float


def drawn_frames(explanation: Explanation, text: int = 0, format: Literal["JPEG", "PNG"] = "JPEG") -> list[DrawnFrame]:
    """Draw all frames of an explanation; see [`draw_frame`].

    Args:
        explanation: Explanation of the video.
        text: Index of the text whose weights are drawn.
        format: Format of the image files.
    """
    tenths = len({int(seconds) for seconds in explanation.seconds}) < len(explanation.seconds)
    frames = []
    for frame, seconds in enumerate(explanation.seconds):
        file = io.BytesIO()
        draw_frame(explanation, frame, text).save(file, format, quality=88, optimize=True)
        weight = float(explanation.weights[text, frame])
        frames.append(DrawnFrame(file.getvalue(), f"image/{format.lower()}", clock(seconds, tenths), weight))
    return frames


def draw_frame(explanation: Explanation, frame: int, text: int = 0, min_side: int = 160) -> Image.Image:
    """Draw a frame with its selected patches outlined, and a bar for its weight below it.

    Args:
        explanation: Explanation of the video.
        frame: Index of the frame.
        text: Index of the text whose weights are drawn.
        min_side: Minimum length of the shorter side in pixels. Smaller frames are magnified by an integer factor.

    Returns:
        The picture. The length of the bar is proportional to the weight; the heaviest frame's bar has full length.
    """
    picture = Image.fromarray(explanation.frames[frame])
    scale = max(1, math.ceil(min_side / min(picture.size)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    for left, top, right, bottom in explanation.selected_boxes(frame):
        outline(picture, (left * scale, top * scale, right * scale, bottom * scale))

    weights = explanation.weights[text]
    length = round(picture.width * float(weights[frame] / weights.max()))
    drawn = Image.new("RGB", (picture.width, picture.height + _BAR_HEIGHT), _TRACK)
    drawn.paste(picture)
    drawn.paste(_BAR, (0, picture.height, length, drawn.height))
    return drawn


def found_words(explanation: Explanation, text: int = 0) -> str:
    """Format the words of a text as one line, each with the time of its best-matching frame and its weight.

    Raises:
        ValueError: If the model has no word-token interaction.
    """
    if explanation.words is None:
        raise ValueError("words have found no frames: the model has no word-token interaction")
    tenths = len({int(seconds) for seconds in explanation.seconds}) < len(explanation.seconds)
    entries = []
    for word in explanation.words[text]:
        time = "padding" if word.frame is None else clock(explanation.seconds[word.frame], tenths)
        entries.append(f"{word.word} {time} ({100 * word.weight:.0f} %)")
    return ", ".join(entries)


def outline(picture: Image.Image, box: Box) -> None:
    """Outline a box on a picture, just inside its edges."""
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=_SHADOW, width=4)
    draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=_OUTLINE, width=2)
