"""Motion shapes drawn: the frames of a scene, the mp4 file of them, and photos.

Notable here: a movement and its reverse pass through the same places, also at the times at which one frame a second
is taken, so only the order of the frames tells them apart. All that is random hangs on the scene's `look` alone:
scenes that differ in the movement or in the dot differ in nothing else.
"""

from functools import partial

import numpy as np

from ...videos.rendering import encode_mp4
from ..benchmark import RenderedClip
from .photos import Photo
from .scenes import DOT_COLOURS, MOVEMENTS, Scene, Setting, scenes

DRAWING = 3  # raise it when a scene or its file changes, so that what was prepared before counts as outdated

FRAME_SIZE = 64  # pixels, each way
FRAMES_PER_SECOND = 8
NUM_FRAMES = 32
DOT_PIXELS = 37  # of 4096: 0.9 % of the frame

PAINT = {
    "red": (225, 45, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 240),
    "yellow": (240, 220, 40),
    "white": (250, 250, 250),
    "purple": (165, 50, 205),
    "orange": (255, 140, 0),
    "cyan": (0, 210, 220),
    "pink": (255, 120, 200),
    "lime": (140, 255, 0),
}

_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # y points down
_CENTRE = FRAME_SIZE / 2
_RADII = (8, 12.5)  # pixels, of things
_GREYS = (40, 150)  # of backgrounds
_MOVING_FRAMES = 24  # the rest of the clip holds the last picture
_FLASH_FRAMES = 8  # one second, so that one frame a second sees it once
_PHOTOS_WITH_DOT = 0.5


def clips(split: str, count: int | None = None, seed: int = 0) -> list[RenderedClip]:
    """The clips of a split; see `scenes`, which takes and raises the same."""
    return [RenderedClip(scene.row, partial(render_mp4, scene)) for scene in scenes(split, count, seed)]


def render(scene: Scene) -> np.ndarray:
    """Draw a scene.

    Returns:
        Frames of shape `(NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3)`, uint8 RGB.
    """
    random = np.random.default_rng(scene.look)
    middle = _CENTRE + random.uniform(-5, 5, 2)
    radius = random.uniform(*_RADII)
    change = random.uniform(0.35, 0.65)
    first_flash = random.integers(0, _MOVING_FRAMES - _FLASH_FRAMES + 1)
    dot = _dot(random)
    corner = random.choice([-1, 1], 2)
    frames = np.repeat(_scenery(scene.setting, corner, random)[None], NUM_FRAMES, axis=0)  # (T, H, W, 3)

    progress = np.clip(np.arange(NUM_FRAMES) / _MOVING_FRAMES, 0, 1)
    places = middle + _path(scene.motion, progress)  # (T, 2)
    grown = {"grow": progress, "shrink": 1 - progress}.get(scene.motion, np.full(NUM_FRAMES, 0.5))
    angles = progress * (1.5 * np.pi if scene.motion == "turn" else 0)
    coverage = _coverage(scene.setting.thing.shape, places, radius * 2 ** (1.4 * grown - 0.7), angles)
    if scene.motion == "appear":
        coverage[progress < change] = 0
    elif scene.motion == "disappear":
        coverage[progress >= change] = 0
    _paint(frames, scene.setting.thing.colour, coverage)

    if scene.dot is not None:
        _paint(frames[first_flash : first_flash + _FLASH_FRAMES], scene.dot, dot)
    return np.rint(frames).astype(np.uint8)


def render_photo(photo: Photo) -> np.ndarray:
    """Draw a photo.

    Returns:
        A picture of shape `(FRAME_SIZE, FRAME_SIZE, 3)`, uint8 RGB.
    """
    random = np.random.default_rng(photo.look)
    cell = np.array([photo.column, photo.row]) - 1
    place = _CENTRE + 15 * cell + random.uniform(-6, 6, 2)
    radius = random.uniform(*_RADII)
    corner = random.choice([-1, 1], 2)
    if (corner == cell).all():
        corner = -corner  # the thing would hide its companion
    picture = _scenery(photo.setting, corner, random)[None]  # (1, H, W, 3)
    thing = photo.setting.thing
    coverage = _coverage(thing.shape, place[None], np.array([radius]), np.zeros(1))
    _paint(picture, thing.colour, coverage)
    if random.random() < _PHOTOS_WITH_DOT:
        _paint(picture, random.choice([colour for colour in DOT_COLOURS if colour != thing.colour]), _dot(random))
    return np.rint(picture[0]).astype(np.uint8)


def render_mp4(scene: Scene) -> bytes:
    """Draw a scene and encode it as an mp4 file with H.264, the same bytes each time."""
    # Fine enough for the dot to keep its colour.
    return encode_mp4(render(scene), FRAMES_PER_SECOND, crf=14)


def _scenery(setting: Setting, corner: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The background with the companion in a corner, given as two signs: `(H, W, 3)`, float32."""
    radius = random.uniform(*_RADII)
    place = _CENTRE + (_CENTRE - 13) * corner + random.uniform(-3, 3, 2)
    y, x = _grid()
    angle = random.uniform(0, 2 * np.pi)
    grey = random.uniform(*_GREYS) + 0.15 * (x * np.cos(angle) + y * np.sin(angle))  # a gentle slope
    if setting.background == "cluttered":
        for _ in range(18):
            (left, top), (width, height) = random.uniform(-6, FRAME_SIZE, 2), random.uniform(3, 14, 2)
            inside = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
            grey[inside] += random.uniform(-35, 35)
    picture = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=2)
    if setting.companion is not None:
        coverage = _coverage(setting.companion.shape, place[None], np.array([radius]), np.zeros(1))
        _paint(picture, setting.companion.colour, coverage[0])
    return picture


def _path(motion: str, progress: np.ndarray) -> np.ndarray:
    """How far from the middle of its movement a thing is: pixels, `(T, 2)`."""
    path = np.zeros((len(progress), 2))
    if motion not in MOVEMENTS:
        return path
    steps = motion.split(", then ")
    reach = 32 if len(steps) == 1 else 28  # pixels
    for place, step in enumerate(steps):
        done = np.clip(progress * len(steps) - place, 0, 1)[:, None]  # each step has its share of the time
        path += (done - 0.5) * reach * np.array(_STEPS[step])
    return path


def _dot(random: np.random.Generator) -> np.ndarray:
    """Where the dot is: a disc of `DOT_PIXELS` whole pixels, as 0 and 1 of shape `(H, W)`."""
    x_middle, y_middle = random.integers(6, FRAME_SIZE - 6, 2) + 0.5
    y, x = _grid()
    return ((x - x_middle) ** 2 + (y - y_middle) ** 2 < 13).astype(np.float32)


def _paint(frames: np.ndarray, colour: str, coverage: np.ndarray) -> None:
    """Lay a colour over pictures `(..., H, W, 3)`, as far as each pixel is covered `(..., H, W)`."""
    frames += coverage[..., None] * (np.array(PAINT[colour], np.float32) - frames)


def _coverage(shape: str, places: np.ndarray, radii: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, from 0 to 1: `(T, H, W)`, float32."""
    y, x = _grid()
    places, radii, angles = (each.astype(np.float32)[..., None, None] for each in (places, radii, angles))
    dx, dy = x - places[:, 0], y - places[:, 1]  # (T, H, W)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.clip(_depth(shape, cos * dx + sin * dy, cos * dy - sin * dx, radii) + 0.5, 0, 1)


def _depth(shape: str, dx: np.ndarray, dy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How many pixels inside the shape's edge each pixel lies; negative outside."""
    if shape == "circle":
        return size - np.hypot(dx, dy)
    if shape == "square":
        return 0.9 * size - np.maximum(abs(dx), abs(dy))
    if shape == "cross":
        wide, narrow = np.maximum(abs(dx), abs(dy)), np.minimum(abs(dx), abs(dy))
        return np.minimum(1.1 * size - wide, 0.35 * size - narrow)
    # A triangle that stands on its base: below two slanted sides, above the third.
    slanted = 0.6 * size - np.float32(np.sin(np.pi / 3)) * abs(dx) + 0.5 * dy
    return np.minimum(slanted, 0.6 * size - dy)


def _grid() -> np.ndarray:
    """The middle of each pixel: y and x, `(2, H, W)`, float32."""
    return np.mgrid[:FRAME_SIZE, :FRAME_SIZE].astype(np.float32) + 0.5
