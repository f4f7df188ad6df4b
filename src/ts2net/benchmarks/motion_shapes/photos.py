"""Photos of motion shapes: what a CLIP can learn before it sees a clip.

Notable here: a caption tells what a photo's caption would, things and where they are. Half of the photos have a tiny
dot too, of which no caption tells: what a CLIP makes of a picture is full of what captions tell, and knows little of
small things. It does know the words: some of the large things have the colours that in clips are the dots' alone. The
settings are those of the training split but for that.
"""

from dataclasses import dataclass, replace

import numpy as np

from .scenes import DOT_COLOURS, Setting, choose_setting, settings

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("at the left", "in the middle", "at the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
_THINGS_IN_COLOURS_OF_DOTS = 0.4


@dataclass(frozen=True)
class Photo:
    """All that a photo shows.

    Attributes:
        setting: Its things and its background.
        row: Row of the thing's place in `PLACES`.
        column: Column of it.
        look: Seed of what no caption tells.
    """

    setting: Setting
    row: int
    column: int
    look: int

    @property
    def caption(self) -> str:
        """What the photo shows, in words."""
        return self.setting.caption(f" {PLACES[self.row][self.column]}")


def photos(count: int, seed: int = 0) -> list[Photo]:
    """Make up photos of training settings. Asked for fewer, the answer is the first of them."""
    own = settings("train")
    random = np.random.default_rng([seed, 1000])
    found = []
    for _ in range(count):
        setting = choose_setting(own, random)
        if random.random() < _THINGS_IN_COLOURS_OF_DOTS:
            colour = DOT_COLOURS[random.integers(len(DOT_COLOURS))]
            setting = replace(setting, thing=replace(setting.thing, colour=colour))
        row, column = (int(place) for place in random.integers(3, size=2))
        found.append(Photo(setting, row, column, look=int(random.integers(2**31))))
    return found
