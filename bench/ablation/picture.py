"""Picture of a model's selection: frames of clips with the selected patches outlined."""

from pathlib import Path

import torch
from clips import PATCHES_PER_SIDE, to_pixels
from PIL import Image, ImageDraw

from ts2net.benchmarks.moving_things import SEEN_FRAMES, Scene, render
from ts2net.modeling_ts2net import TS2NetModel

_ROWS, _COLUMNS, _GAP, _LINE = 4, 2, 6, 16  # clips, and pixels


def draw(model: TS2NetModel, searched: list[Scene], frames: torch.Tensor, file: Path) -> None:
    """Draw the first clips that have a small thing."""
    shown = [index for index, scene in enumerate(searched) if scene.small][: _ROWS * _COLUMNS]
    with torch.inference_mode():
        output = model.eval().get_video_features(to_pixels(frames[shown]))
    selected = (output.selected_token_indices - 1).tolist()  # clips, frames, patches
    pictures = [_clip(searched[index], patches) for index, patches in zip(shown, selected, strict=True)]
    width, height = pictures[0].size
    sheet = Image.new("RGB", ((width + _GAP) * _COLUMNS - _GAP, (height + _GAP) * _ROWS - _GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, _COLUMNS)
        sheet.paste(picture, (column * (width + _GAP), row * (height + _GAP)))
    sheet.save(file, quality=80, method=6)
    print(f"{file}: {file.stat().st_size:,} bytes")


def _clip(scene: Scene, patches: list[list[int]]) -> Image.Image:
    frames = render(scene)[list(SEEN_FRAMES)]
    side = frames.shape[1]
    patch = side // PATCHES_PER_SIDE
    picture = Image.new("RGB", ((side + 2) * len(frames) - 2, side + _LINE), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((1, 2), scene.caption, fill="black")
    for index, (frame, chosen) in enumerate(zip(frames, patches, strict=True)):
        left = index * (side + 2)
        picture.paste(Image.fromarray(frame), (left, _LINE))
        for number in chosen:
            row, column = divmod(number, PATCHES_PER_SIDE)
            x, y = left + column * patch, _LINE + row * patch
            pen.rectangle((x, y, x + patch - 1, y + patch - 1), outline="white", width=2)
            pen.rectangle((x + 2, y + 2, x + patch - 3, y + patch - 3), outline="black", width=1)
    return picture
