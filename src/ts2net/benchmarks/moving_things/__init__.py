"""Moving things: a benchmark rendered from a seed, of everyday things that move, turn, grow, appear and meet.

The pictures are Noto emoji (Apache-2.0; see `NOTICE`) over painted backgrounds. Two diagnostic splits test the modules
of TS2-Net: the candidates of a group in `motion` differ only in the direction or the order of a motion, and those in
`small_object` only in a thing that covers at most 3 % of the frame.
"""

from .drawing import (
    DRAWING,
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    NUM_FRAMES,
    SEEN_FRAMES,
    clips,
    covered_pixels,
    patch_shares,
    render,
    render_mp4,
    render_photo,
)
from .photos import LOCATIONS, Photo, photos
from .scenes import DEFAULT_COUNTS, GROUP_SIZE, MOTIONS, SPLITS, Scene, scenes
from .things import THINGS, phrase

__all__ = [
    "DEFAULT_COUNTS",
    "DRAWING",
    "FRAMES_PER_SECOND",
    "FRAME_SIZE",
    "GROUP_SIZE",
    "LOCATIONS",
    "MOTIONS",
    "NUM_FRAMES",
    "SEEN_FRAMES",
    "SPLITS",
    "THINGS",
    "Photo",
    "Scene",
    "clips",
    "covered_pixels",
    "patch_shares",
    "photos",
    "phrase",
    "render",
    "render_mp4",
    "render_photo",
    "scenes",
]
