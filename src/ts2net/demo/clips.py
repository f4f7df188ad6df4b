"""Captioned clips of moving shapes, drawn from nothing: real H.264 files to try a retrieval model on.

Notable here: a scene is what its caption says and no more. Scenes differ by colour, by shape and by motion, and some
by their motion alone, so that one frame is not enough to tell which caption is right. Everything else (size, place,
background, noise) is drawn from a seed.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 160, 120  # pixels
FRAMES_PER_SECOND = 12
SECONDS = 4

COLOURS = {
    "red": (225, 45, 40),
    "green": (50, 190, 70),
    "blue": (60, 90, 235),
    "yellow": (235, 210, 50),
    "white": (240, 240, 240),
    "purple": (160, 60, 200),
}
SHAPES = ("circle", "square", "triangle")
MOTIONS = {
    "left": "moves to the left",
    "right": "moves to the right",
    "up": "moves up",
    "down": "moves down",
    "grow": "grows",
    "shrink": "shrinks",
}

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # y points down


@dataclass(frozen=True)
class Scene:
    """One shape of one colour in one motion.

    Args:
        colour: A key of `COLOURS`.
        shape: One of `SHAPES`.
        motion: A key of `MOTIONS`.

    Raises:
        ValueError: If one of them is unknown.
    """

    colour: str
    shape: str
    motion: str

    def __post_init__(self) -> None:
        for name, known in [("colour", COLOURS), ("shape", SHAPES), ("motion", MOTIONS)]:
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def caption(self) -> str:
        """The scene in words."""
        return f"a {self.colour} {self.shape} {MOTIONS[self.motion]}"

    @property
    def name(self) -> str:
        """The scene in a file name."""
        return f"{self.colour}-{self.shape}-{self.motion}"


ALL_SCENES = tuple(Scene(colour, shape, motion) for colour in COLOURS for shape in SHAPES for motion in MOTIONS)

DEMO_SCENES = (
    Scene("red", "circle", "left"),
    Scene("red", "circle", "right"),
    Scene("blue", "square", "up"),
    Scene("blue", "square", "down"),
    Scene("green", "triangle", "grow"),
    Scene("green", "triangle", "shrink"),
    Scene("yellow", "circle", "up"),
    Scene("white", "square", "left"),
)


def render_clips(folder: Path, scenes: tuple[Scene, ...] = DEMO_SCENES, seed: int = 0) -> dict[Path, str]:
    """Render scenes to mp4 files.

    Args:
        folder: Where to; made if it is not there.
        scenes: What to render, one file each.
        seed: The scene at place `i` is drawn with the seed `seed + i`.

    Returns:
        The caption of each file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for place, scene in enumerate(scenes):
        path = folder / f"{scene.name}.mp4"
        path.write_bytes(encode_mp4(render(scene, seed + place)))
        captions[path] = scene.caption
    return captions


def render(scene: Scene, seed: int) -> np.ndarray:
    """Draw a scene.

    Returns:
        Frames of shape `(FRAMES_PER_SECOND * SECONDS, HEIGHT, WIDTH, 3)`, uint8 RGB.
    """
    random = np.random.default_rng(seed)
    num_frames = FRAMES_PER_SECOND * SECONDS
    x_centre, y_centre = WIDTH / 2 + random.uniform(-6, 6), HEIGHT / 2 + random.uniform(-6, 6)
    radius = random.uniform(13, 17)
    # A slope of grey that no colour of a shape comes near.
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    angle = random.uniform(0, 2 * np.pi)
    background = random.uniform(35, 60) + 0.1 * (x * np.cos(angle) + y * np.sin(angle))

    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index in range(num_frames):
        progress = 2 * index / (num_frames - 1) - 1  # from -1 to 1
        x_step, y_step = _DIRECTIONS.get(scene.motion, (0, 0))
        # 32 pixels each way: the shape stays within the square that is left by cropping at the centre.
        dx = x - x_centre - 32 * progress * x_step
        dy = y - y_centre - 32 * progress * y_step
        size = radius * {"grow": 2.0**progress, "shrink": 2.0**-progress}.get(scene.motion, 1.0)
        coverage = np.clip(_depth(scene.shape, dx, dy, size) + 0.5, 0, 1)[..., None]  # (H, W, 1), soft at the edge
        noise = random.normal(0, 3, (HEIGHT, WIDTH, 1))
        picture = background[..., None] * (1 - coverage) + np.array(COLOURS[scene.colour]) * coverage + noise
        frames[index] = np.clip(picture, 0, 255).round()
    return frames


def encode_mp4(frames: np.ndarray, frames_per_second: int = FRAMES_PER_SECOND) -> bytes:
    """Encode frames `(T, H, W, 3)`, uint8 RGB of even height and width, as an mp4 file with H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=frames_per_second)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _depth(shape: str, dx: np.ndarray, dy: np.ndarray, size: float) -> np.ndarray:
    """How many pixels inside the shape's edge each pixel lies; negative outside."""
    if shape == "circle":
        return size - np.hypot(dx, dy)
    if shape == "square":
        return size - np.maximum(abs(dx), abs(dy))
    # A triangle that stands on its base: below two slanted sides, above the third.
    slanted = 0.5 * size - np.sin(np.pi / 3) * abs(dx) + np.cos(np.pi / 3) * dy
    return np.minimum(slanted, 0.5 * size - dy)
