"""What a clip of motion shapes shows, how it is said in English, and which clips make a split.

Notable here: a *setting*, which is what a photo of the scene would show, belongs to one split by a stable hash of its
words, whatever the seed and however many clips are asked for. So no scene of one split can turn up in another. A
caption tells all that its clip shows, save sizes, shades and places. In validation and test no other clip shows the
thing that a caption begins with, in that motion and before that background: the caption is true of one clip only.
Dots have colours that no thing in a clip has: who only knows the colours of a clip's things doesn't know its dot.
"""

import hashlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..rows import Row

COLOURS = ("red", "green", "blue", "yellow", "white", "purple")
DOT_COLOURS = ("orange", "cyan", "pink", "lime")  # of no thing in a clip
SHAPES = ("circle", "square", "triangle", "cross")
BACKGROUNDS = ("plain", "cluttered")

STRAIGHT = ("left", "right", "up", "down")
# Run backwards, the first of these is the last and the second is the third: both pass through the same places.
LEFT_AND_UP = ("left, then up", "up, then left", "right, then down", "down, then right")
RIGHT_AND_UP = ("right, then up", "up, then right", "left, then down", "down, then left")
MOVEMENTS = (*STRAIGHT, *LEFT_AND_UP, *RIGHT_AND_UP)
MOTIONS = {
    **{movement: f"moves {movement}" for movement in MOVEMENTS},
    "turn": "turns",
    "grow": "grows",
    "shrink": "shrinks",
    "appear": "appears",
    "disappear": "disappears",
    "stay": "stays",
}
GROUP_SIZE = 4  # candidates of a group in the diagnostic splits, neighbours alike in the training split

# Of 20 settings, how many are whose.
_SHARES = {"train": 12, "validation": 2, "test": 2, "motion": 2, "small_object": 2}
SPLITS = tuple(_SHARES)
DEFAULT_COUNTS = {"train": 2000, "validation": 200, "test": 200, "motion": 200, "small_object": 200}


@dataclass(frozen=True)
class Thing:
    """A shape of a colour."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Setting:
    """What a photo of a scene shows.

    Attributes:
        thing: What moves in the scene.
        companion: A second thing of another colour, which stays where it is; None if there is none.
        background: One of `BACKGROUNDS`.
    """

    thing: Thing
    companion: Thing | None
    background: str

    def caption(self, after_thing: str = "") -> str:
        """The setting in words, with more words about its thing."""
        beside = f" beside a {self.companion}" if self.companion else ""
        return f"a {self.thing}{after_thing}{beside} on a {self.background} background"

    @property
    def split(self) -> str:
        """The one split that it may be seen in."""
        place = int.from_bytes(hashlib.sha256(self.caption().encode()).digest()[:8], "big") % sum(_SHARES.values())
        return [split for split, share in _SHARES.items() for _ in range(share)][place]

    @property
    def motions(self) -> list[str]:
        """The motions that can be seen of its thing: a circle that turns looks like one that stays."""
        return [motion for motion in MOTIONS if not (motion == "turn" and self.thing.shape == "circle")]


@dataclass(frozen=True)
class Scene:
    """All that a clip shows.

    Attributes:
        video_id: The clip's name; its split is in it.
        setting: Its things and its background.
        motion: What the thing does: a key of `MOTIONS`.
        dot: One of `DOT_COLOURS`, of a tiny dot that flashes for a moment; None if there is none.
        look: Seed of what no caption tells: the exact places, sizes and shades, the clutter, the moment of the flash.
        group: In the diagnostic splits, the candidates among which the clip is to be found.
    """

    video_id: str
    setting: Setting
    motion: str
    dot: str | None
    look: int
    group: str | None = None

    @property
    def caption(self) -> str:
        """What the clip shows, in words."""
        words = self.setting.caption(f" {MOTIONS[self.motion]}")
        return f"{words}; a tiny {self.dot} dot flashes" if self.dot else words

    @property
    def row(self) -> Row:
        """The scene as every benchmark has it."""
        return Row(self.video_id, (self.caption,), group=self.group)


def settings(split: str) -> list[Setting]:
    """All settings of a split, those without a companion first.

    Raises:
        ValueError: If there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"motion shapes has no split {split!r}, only {', '.join(SPLITS)}")
    things = [Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES)]
    all_settings = [
        Setting(thing, companion, background)
        for companion, thing, background in product([None, *things], things, BACKGROUNDS)
        if companion is None or companion.colour != thing.colour
    ]
    return [setting for setting in all_settings if setting.split == split]


def scenes(split: str, count: int | None = None, seed: int = 0) -> list[Scene]:
    """Make up the scenes of a split. Asked for fewer, the answer is the first of them.

    - `train` comes in families: four neighbours have a setting in common, and differ in two motions times two dots.
    - `validation`, `test`: no caption is true of two clips, even where it is silent of a companion or a dot.
    - `motion`: groups of four that differ in the movement only, and look alike.
    - `small_object`: groups of four that differ in the colour of the dot only, and look alike.

    Args:
        split: One of `SPLITS`.
        count: How many; the split's `DEFAULT_COUNTS` if None.
        seed: Of everything but the settings' splits.

    Raises:
        ValueError: If there is no such split, or not as many scenes in it.
    """
    own = settings(split)
    count = DEFAULT_COUNTS[split] if count is None else count
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    random = np.random.default_rng([seed, SPLITS.index(split)])
    if split == "train":
        return _families(own, count, random)
    if split in ("motion", "small_object"):
        return _groups(split, own, count, random)
    return _distinct(split, own, count, random)


def _families(own: list[Setting], count: int, random: np.random.Generator) -> list[Scene]:
    found: list[Scene] = []
    while len(found) < count:
        setting = choose_setting(own, random)
        dots = _two_of([None, *DOT_COLOURS], random)
        for motion, dot in product(_two_of(setting.motions, random), dots):
            found.append(Scene(f"train-{len(found):05d}", setting, motion, dot, _look(random)))
    return found[:count]


def _distinct(split: str, own: list[Setting], count: int, random: np.random.Generator) -> list[Scene]:
    most = len({(setting.thing, setting.background) for setting in own}) * (len(MOTIONS) - 1)
    if count > most * 3 // 4:  # the last of them would be found by rare luck only
        raise ValueError(f"split {split!r} of motion shapes has at most {most * 3 // 4} scenes, got count={count}")
    found: list[Scene] = []
    told: set[tuple] = set()
    shown: set[tuple] = set()
    while len(found) < count:
        setting = choose_setting(own, random)
        motion = setting.motions[random.integers(len(setting.motions))]
        dot = _two_of([None, *DOT_COLOURS], random)[0]
        look = _look(random)
        tells = (setting.thing, motion, setting.background)
        shows = {tells, (setting.companion, "stay", setting.background)}
        if tells not in shown and not shows & told:
            told.add(tells)
            shown |= shows
            found.append(Scene(f"{split}-{len(found):05d}", setting, motion, dot, look))
    return found


def _groups(split: str, own: list[Setting], count: int, random: np.random.Generator) -> list[Scene]:
    own = [setting for setting in own if setting.companion]
    if count % GROUP_SIZE or count > GROUP_SIZE * len(own):
        raise ValueError(
            f"split {split!r} of motion shapes has up to {len(own)} groups of {GROUP_SIZE} scenes, got count={count}"
        )
    found: list[Scene] = []
    for number, place in enumerate(random.permutation(len(own))[: count // GROUP_SIZE]):
        setting, group = own[place], f"{split}-{number:04d}"
        motion = setting.motions[random.integers(len(setting.motions))]
        dot = DOT_COLOURS[random.integers(len(DOT_COLOURS))]
        scene = Scene(group, setting, motion, dot, _look(random), group)
        if split == "motion":
            kind = (STRAIGHT, LEFT_AND_UP, RIGHT_AND_UP)[number % 3]
            candidates = [replace(scene, motion=movement) for movement in kind]
        else:
            candidates = [replace(scene, dot=colour) for colour in DOT_COLOURS]
        found += [replace(each, video_id=f"{group}-{place}") for place, each in enumerate(candidates)]
    return found


def choose_setting(own: list[Setting], random: np.random.Generator) -> Setting:
    """One of some settings: half of the time one without a companion, of which there are few."""
    alone = random.random() < 0.5
    fitting = [setting for setting in own if (setting.companion is None) == alone]
    return fitting[random.integers(len(fitting))]


def _two_of(values: list, random: np.random.Generator) -> list:
    return [values[place] for place in random.choice(len(values), 2, replace=False)]


def _look(random: np.random.Generator) -> int:
    return int(random.integers(2**31))
