"""Motion shapes: a benchmark made from nothing, by seed, of coloured shapes that move, turn, grow, appear or stay.

Two of its splits ask for what the two modules of TS2-Net are for. In `motion` the candidates differ only in the
direction or the order of a movement, in `small_object` only in a dot that covers less than 1 % of a few frames.
"""

from .drawing import (
    DRAWING,
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    NUM_FRAMES,
    PAINT,
    clips,
    render,
    render_mp4,
    render_photo,
)
from .photos import Photo, photos
from .scenes import DEFAULT_COUNTS, GROUP_SIZE, MOTIONS, SPLITS, Scene, Setting, Thing, scenes, settings

__all__ = [
    "DEFAULT_COUNTS",
    "DRAWING",
    "FRAMES_PER_SECOND",
    "FRAME_SIZE",
    "GROUP_SIZE",
    "MOTIONS",
    "NUM_FRAMES",
    "PAINT",
    "SPLITS",
    "Photo",
    "Scene",
    "Setting",
    "Thing",
    "clips",
    "photos",
    "render",
    "render_mp4",
    "render_photo",
    "scenes",
    "settings",
]
