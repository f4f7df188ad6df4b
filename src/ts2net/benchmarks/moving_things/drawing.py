"""Rendering of moving things: frames and mp4 files of scenes, photos, and the patches that each thing covers.

- Pictures are composed of 8-bit images with Pillow's integer arithmetic, so they are the same on every machine.
- A motion and its reverse show the same pictures when one frame per second is sampled, and differ only in the order
  of the frames.
- The random numbers of a scene depend only on its `look`.
"""

import functools
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw

from ...videos.rendering import encode_mp4
from ..benchmark import RenderedClip
from .photos import Photo
from .scenes import ORDER, STRAIGHT, Scene, scenes
from .things import THINGS

DRAWING = 2  # raise it when a scene or its file changes, so that data prepared before counts as outdated

FRAME_SIZE = 112  # height and width in pixels
FRAMES_PER_SECOND = 8
NUM_FRAMES = 32
SEEN_FRAMES = tuple(range(0, NUM_FRAMES, FRAMES_PER_SECOND))  # one per second
SPRITE_SIZE = 64
SHEET_COLUMNS = 12
LARGEST_SMALL_THING = 0.03  # share of the frame's pixels

_MOVING_FRAMES = 24  # the rest of the clip holds the last picture
_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # y points down
_OPAQUE = 128  # minimum alpha, of 255, of a pixel that belongs to a thing


@dataclass(frozen=True)
class Pose:
    """Position, size and orientation of a thing in one frame.

    Attributes:
        thing: Name of the thing.
        x: Column of the centre, in pixels.
        y: Row of the centre, in pixels.
        size: Length of the longer side, in pixels.
        mirrored: Whether left and right are swapped.
        angle: Clockwise rotation in degrees.
    """

    thing: str
    x: float
    y: float
    size: int
    mirrored: bool
    angle: int = 0


def clips(split: str, count: int | None = None, seed: int = 0) -> list[RenderedClip]:
    """Return the clips of a split; see `scenes` for the arguments and errors."""
    return [RenderedClip(scene.row, partial(render_mp4, scene)) for scene in scenes(split, count, seed)]


def render(scene: Scene) -> np.ndarray:
    """Draw a scene.

    Returns:
        Frames of shape `(NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3)`, uint8 RGB.
    """
    background = _background(np.random.default_rng([scene.look, 0]))
    frames = []
    for poses in _poses(scene):
        picture = background.copy()
        for pose in poses.values():
            _paste(picture, pose)
        frames.append(np.asarray(picture))
    return np.stack(frames)


def render_photo(photo: Photo) -> np.ndarray:
    """Draw a photo.

    Returns:
        A picture of shape `(FRAME_SIZE, FRAME_SIZE, 3)`, uint8 RGB.
    """
    random = np.random.default_rng([photo.look, 0])
    picture = _background(random)
    for thing, x, y, size in zip(photo.things, photo.x, photo.y, photo.sizes, strict=True):
        mirrored = bool(random.integers(2))
        _paste(picture, Pose(thing, x * FRAME_SIZE, y * FRAME_SIZE, round(size * FRAME_SIZE), mirrored))
    return np.asarray(picture)


def render_mp4(scene: Scene) -> bytes:
    """Draw a scene and encode it as an mp4 file with H.264, the same bytes each time."""
    return encode_mp4(render(scene), FRAMES_PER_SECOND, crf=18)


def patch_shares(scene: Scene, patches_per_side: int) -> dict[str, np.ndarray]:
    """Compute the share of each patch that each thing covers, in the frames sampled at one per second.

    Args:
        scene: The scene.
        patches_per_side: Number of patches along the height and the width of a frame. It must divide `FRAME_SIZE`.

    Returns:
        For `thing`, `companion` and `small` shares from 0 to 1, of shape `(T, patches_per_side ** 2)`, float32. They
        are 0 if the scene has no such thing. Pixels covered by several things count for the front one only.

    Raises:
        ValueError: If `patches_per_side` does not divide `FRAME_SIZE`.
    """
    if FRAME_SIZE % patches_per_side:
        raise ValueError(f"patches_per_side must divide the frame's {FRAME_SIZE} pixels, got {patches_per_side}")
    side = FRAME_SIZE // patches_per_side
    masks = covered_pixels(scene)
    patches = {
        part: mask.reshape(len(mask), patches_per_side, side, patches_per_side, side) for part, mask in masks.items()
    }
    return {
        part: each.mean(axis=(2, 4), dtype=np.float32).reshape(len(each), patches_per_side**2)
        for part, each in patches.items()
    }


def covered_pixels(scene: Scene) -> dict[str, np.ndarray]:
    """Compute the pixels that show `thing`, `companion` and `small`, in the frames sampled at one per second.

    Returns:
        A mask of shape `(T, FRAME_SIZE, FRAME_SIZE)`, bool, for each of the three.
    """
    masks = {
        part: np.zeros((len(SEEN_FRAMES), FRAME_SIZE, FRAME_SIZE), bool) for part in ("thing", "companion", "small")
    }
    every = list(_poses(scene))
    for index, frame in enumerate(SEEN_FRAMES):
        for part, pose in every[frame].items():
            canvas = Image.new("L", (FRAME_SIZE, FRAME_SIZE))
            sprite, corner = _placed(pose)
            canvas.paste(sprite.getchannel("A"), corner)
            mask = np.asarray(canvas) >= _OPAQUE
            for other in masks.values():
                other[index] &= ~mask
            masks[part][index] = mask
    return masks


def _poses(scene: Scene) -> list[dict[str, Pose]]:
    """Return the poses of the things of each frame, by their role in the scene and from back to front."""
    random = np.random.default_rng([scene.look, 2])
    in_company = scene.companion is not None
    size = int(random.integers(34, 41) if in_company else random.integers(44, 61))
    companion_size = int(random.integers(30, 39))
    side = 1 if random.integers(2) else -1  # side of the thing if it has a companion
    reach = int(random.integers(34, 47))
    across, jitter, height = random.uniform(0, 1), random.uniform(-8, 8), random.uniform(-16, 16)
    mirrored, companion_mirrored, small_mirrored = (bool(value) for value in random.integers(0, 2, 3))
    small_size = int(random.integers(18, 23))
    first = int(random.integers(len(SEEN_FRAMES)))
    last = first + int(random.integers(1, 4))  # exclusive
    tries = random.uniform(0, 1, (60, 2))

    middle, room = FRAME_SIZE / 2, FRAME_SIZE - size

    def main_poses(motion: str) -> list[dict[str, Pose]]:
        poses_per_frame = []
        for frame in range(NUM_FRAMES):
            progress = min(1.0, frame / _MOVING_FRAMES)
            step_x, step_y = _STEPS.get(motion, (0, 0))
            gap = {"meet": 1 - progress, "part": progress}.get(motion, 0.5)
            if in_company:
                distance = 19 + 19 * gap  # of both things from the middle
                x, y = middle + side * distance, middle + height
            else:
                x = middle + jitter if step_x else size / 2 + across * room
                y = middle + jitter if step_y else size / 2 + across * room
            x += step_x * reach * (progress - 0.5)
            y += step_y * reach * (progress - 0.5)
            growth = {"grow": progress, "shrink": 1 - progress}.get(motion)
            now = size if growth is None else round(size * (0.6 + 0.6 * growth))
            angle = round(270 * progress) if motion == "turn" else 0
            poses = {"thing": Pose(scene.thing, x, y, now, mirrored, angle)}
            if scene.companion is not None:
                x = middle - side * distance
                poses["companion"] = Pose(scene.companion, x, y, companion_size, companion_mirrored)
            poses_per_frame.append(poses)
        return poses_per_frame

    every = main_poses(scene.motion)
    if scene.small is None:
        return every

    # The small thing avoids the other things, and has the same location for all motions of the group.
    group = next((each for each in (STRAIGHT, ORDER) if scene.motion in each and _fits(each, scene)), (scene.motion,))
    seen = [pose for motion in group for frame in SEEN_FRAMES for pose in main_poses(motion)[frame].values()]

    def overlap(x: float, y: float) -> float:
        return sum(
            max(0.0, (pose.size + small_size) / 2 - max(abs(x - pose.x), abs(y - pose.y))) ** 2 for pose in seen
        )

    locations = small_size / 2 + tries * (FRAME_SIZE - small_size)
    x, y = min(((float(x), float(y)) for x, y in locations), key=lambda location: overlap(*location))
    small = Pose(scene.small, x, y, _small_size(scene.small, small_size), small_mirrored)
    for frame in range(first * FRAMES_PER_SECOND, min(NUM_FRAMES, last * FRAMES_PER_SECOND)):
        every[frame] = every[frame] | {"small": small}
    return every


def _fits(group: tuple[str, ...], scene: Scene) -> bool:
    """Whether a scene can have all motions of a group, some of which need a companion."""
    return group == STRAIGHT or scene.companion is not None


@functools.cache
def _small_size(thing: str, size: int) -> int:
    """Return the largest size up to `size` at which a thing covers at most `LARGEST_SMALL_THING` of the frame."""
    while _area(thing, size) > LARGEST_SMALL_THING * FRAME_SIZE**2:
        size -= 1
    return size


def _area(thing: str, size: int) -> int:
    """Return the number of pixels that a thing covers."""
    return int((np.asarray(_sprite(thing, size, False).getchannel("A")) >= _OPAQUE).sum())


def _background(random: np.random.Generator) -> Image.Image:
    """Paint a background: a gradient of a few colours with some ellipses and rectangles on it."""
    base = random.integers(70, 191) + random.integers(-35, 36, 3)
    wash = np.clip(base + random.integers(-35, 36, (3, 3, 3)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(wash).resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(random.integers(0, 9)):
        left, top = random.integers(-10, FRAME_SIZE, 2)
        width, height = random.integers(4, 34, 2)
        colour = (*(int(value) for value in random.integers(0, 256, 3)), int(random.integers(30, 130)))
        shape = draw.ellipse if random.integers(2) else draw.rectangle
        shape((int(left), int(top), int(left + width), int(top + height)), fill=colour)
    return picture


def _paste(picture: Image.Image, pose: Pose) -> None:
    sprite, corner = _placed(pose)
    picture.paste(sprite, corner, sprite)


def _placed(pose: Pose) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture of a thing, and the position of its upper left corner in the frame."""
    sprite = _sprite(pose.thing, pose.size, pose.mirrored)
    if pose.angle:
        sprite = sprite.rotate(-pose.angle, Image.Resampling.BICUBIC, expand=True)
    return sprite, (round(pose.x - sprite.width / 2), round(pose.y - sprite.height / 2))


@functools.lru_cache(4096)
def _sprite(thing: str, size: int, mirrored: bool) -> Image.Image:
    """Return the picture of a thing with `size` pixels on the longer side."""
    row, column = divmod(THINGS.index(thing), SHEET_COLUMNS)
    left, top = SPRITE_SIZE * column, SPRITE_SIZE * row
    sprite = _sheet().crop((left, top, left + SPRITE_SIZE, top + SPRITE_SIZE))
    sprite = sprite.crop(sprite.getbbox())
    scale = size / max(sprite.size)
    shape = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    sprite = sprite.resize(shape, Image.Resampling.LANCZOS)
    return sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else sprite


@functools.cache
def _sheet() -> Image.Image:
    with (files(__package__) / "sheet.png").open("rb") as file:
        return Image.open(file).convert("RGBA")
