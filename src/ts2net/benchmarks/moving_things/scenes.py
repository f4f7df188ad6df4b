"""What a clip of moving things shows, its caption, and which clips make a split.

Notable:
- A stable hash assigns each pair of a thing and a small thing (or of a thing and its motion, where a clip has no small
  thing) to one split, whatever the seed and the number of clips. So no composition is in two splits.
- One in eight pairs of a thing and a motion is seen in `unseen` only.
- A scene's `look` seeds all that its other fields do not tell, the phrasing of the caption included. Scenes that
  differ in the motion or in the small thing, with the same look, differ in nothing else.
"""

import hashlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..rows import Row
from .captions import caption_of
from .things import ROUND, THINGS

STRAIGHT = ("left", "right", "up", "down")
ORDER = ("grow", "shrink", "meet", "part")  # run backwards, each is its neighbour
MOTIONS = (*STRAIGHT, *ORDER, "turn", "stay")
TOGETHER = ("meet", "part")  # motions of two things
_ALONE = tuple(motion for motion in MOTIONS if motion not in TOGETHER)
_IN_COMPANY = tuple(motion for motion in MOTIONS if motion not in STRAIGHT)
GROUP_SIZE = 4  # candidates in a group of a diagnostic split, and neighbours alike in the training split

# Of 20 pairs, how many belong to which split.
_SHARES = {"train": 12, "validation": 2, "test": 2, "unseen": 1, "motion": 1, "small_object": 2}
SPLITS = tuple(_SHARES)
DEFAULT_COUNTS = {
    "train": 4000,
    "validation": 200,
    "test": 200,
    "unseen": 80,
    "motion": 200,
    "small_object": 400,
}
# Those whose captions are true of one clip only: there are not more pairs of a thing and a motion to draw from.
_MOST_CLIPS = {"validation": 500, "test": 500, "unseen": 80}
_WITH_COMPANION = 0.25
_WITHOUT_SMALL_THING = 0.2
_FAMILIES_WITHOUT = 0.3


@dataclass(frozen=True)
class Scene:
    """All that a clip shows.

    Attributes:
        video_id: The clip's name, which begins with its split.
        thing: What moves: one of `THINGS`.
        motion: What it does: one of `MOTIONS`.
        companion: A second thing, which only moves in `meet` and `part`; None if there is none.
        small: A small thing that appears for one to three seconds; None if there is none.
        look: Seed of what the other fields do not tell: background, sizes, locations, times and phrasing.
        group: Name of the clips that differ from it in little. In a diagnostic split it is to be found among these; in
            the training split they are a family.
    """

    video_id: str
    thing: str
    motion: str
    companion: str | None
    small: str | None
    look: int
    group: str | None = None

    @property
    def caption(self) -> str:
        """What the clip shows, in words."""
        return caption_of(self.thing, self.motion, self.companion, self.small, self.look)

    @property
    def row(self) -> Row:
        """The scene as a row of any benchmark."""
        return Row(self.video_id, (self.caption,), group=self.group)


def may_show(split: str, thing: str, motion: str, small: str | None) -> bool:
    """Whether a split may show this composition. At most one split does."""
    if (motion == "turn" and thing in ROUND) or (_hash(f"{thing} {motion}") % 8 == 0) != (split == "unseen"):
        return False
    return split == ("unseen" if split == "unseen" and small is None else _share(thing, small or motion))


def scenes(split: str, count: int | None = None, seed: int = 0) -> list[Scene]:
    """Make up the scenes of a split. A smaller count gives the first of them.

    - `train` comes in families: four neighbours share their thing, and differ in two motions times two small things.
    - `validation`, `test`, `unseen`: each caption is true of one clip of the split. In `unseen` no thing has been seen
      in its motion in another split.
    - `motion`: groups of four that differ in the direction (`STRAIGHT`) or the order (`ORDER`) of a motion alone.
    - `small_object`: groups of four that differ in the small thing alone.

    Args:
        split: One of `SPLITS`.
        count: How many; the split's `DEFAULT_COUNTS` if None.
        seed: Another seed gives other scenes.

    Raises:
        ValueError: If there is no such split, or it does not have as many scenes.
    """
    if split not in SPLITS:
        raise ValueError(f"moving things has no split {split!r}, only {', '.join(SPLITS)}")
    count = DEFAULT_COUNTS[split] if count is None else count
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if count > _MOST_CLIPS.get(split, count):
        raise ValueError(f"split {split!r} of moving things has at most {_MOST_CLIPS[split]} clips, got count={count}")
    random = np.random.default_rng([seed, SPLITS.index(split)])
    if split == "train":
        return _families(count, random)
    if split in ("motion", "small_object"):
        if count % GROUP_SIZE:
            raise ValueError(f"split {split!r} of moving things has groups of {GROUP_SIZE} clips, got count={count}")
        return _groups(split, count, random)
    return _distinct(split, count, random)


def _families(count: int, random: np.random.Generator) -> list[Scene]:
    drawn: list[Scene] = []
    turns: list[int] = []
    while len(drawn) < count:
        turns = turns or random.permutation(len(THINGS)).tolist()  # each thing as often as the others
        thing = THINGS[turns[-1]]
        companion, one, other = (THINGS[index] for index in random.choice(len(THINGS), 3, replace=False))
        with_companion = random.random() < _WITH_COMPANION
        motions = _IN_COMPANY if with_companion else _ALONE
        motions = tuple(motions[index] for index in random.choice(len(motions), 2, replace=False))
        smalls = (one, None if random.random() < _FAMILIES_WITHOUT else other)
        is_allowed = all(may_show("train", thing, motion, small) for motion, small in product(motions, smalls))
        if is_allowed and thing not in (companion, *smalls):
            turns.pop()
            family = f"family-{len(drawn) // GROUP_SIZE:05d}"
            for motion, small in product(motions, smalls):
                name = f"train-{len(drawn):05d}"
                drawn.append(
                    Scene(name, thing, motion, companion if with_companion else None, small, _look(random), family)
                )
    return drawn[:count]


def _distinct(split: str, count: int, random: np.random.Generator) -> list[Scene]:
    drawn: list[Scene] = []
    captioned: set[tuple] = set()  # pairs of a thing and a motion that captions tell
    shown: set[tuple] = set()  # those that clips show, which is more than their captions tell
    while len(drawn) < count:
        thing, companion, small = (THINGS[index] for index in random.choice(len(THINGS), 3, replace=False))
        motion = MOTIONS[random.integers(len(MOTIONS))]
        alone = motion in STRAIGHT or (motion not in TOGETHER and random.random() > _WITH_COMPANION)
        scene = Scene(
            f"{split}-{len(drawn):05d}",
            thing,
            motion,
            None if alone else companion,
            None if random.random() < _WITHOUT_SMALL_THING else small,
            _look(random),
        )
        if motion in TOGETHER:
            in_caption = {(thing, motion), (companion, motion)}
            in_clip = in_caption
        else:
            in_caption = {(thing, motion)}
            in_clip = in_caption if alone else in_caption | {(companion, "stay")}
        if may_show(split, thing, motion, scene.small) and not in_caption & shown and not in_clip & captioned:
            captioned |= in_caption
            shown |= in_clip
            drawn.append(scene)
    return drawn


def _groups(split: str, count: int, random: np.random.Generator) -> list[Scene]:
    drawn: list[Scene] = []
    while len(drawn) < count:
        number = len(drawn) // GROUP_SIZE
        name = f"{split}-{number:04d}"
        thing, companion = (THINGS[index] for index in random.choice(len(THINGS), 2, replace=False))
        if split == "motion":
            motions: tuple[str, ...] = ORDER if number % 4 == 3 else STRAIGHT
        else:
            motions = (MOTIONS[random.integers(len(MOTIONS))],)
        smalls = [
            small
            for small in THINGS
            if small not in (thing, companion) and all(may_show(split, thing, motion, small) for motion in motions)
        ]
        fewest = 1 if split == "motion" else GROUP_SIZE
        look = _look(random)
        if len(smalls) < fewest:
            continue
        smalls = [smalls[index] for index in random.choice(len(smalls), fewest, replace=False)]
        together = set(motions) & set(TOGETHER)
        scene = Scene(name, thing, motions[0], companion if together else None, smalls[0], look, name)
        candidates = [replace(scene, motion=motion, small=small) for motion, small in product(motions, smalls)]
        drawn += [replace(each, video_id=f"{name}-{index}") for index, each in enumerate(candidates)]
    return drawn


def _share(thing: str, other: str) -> str:
    index = _hash(f"{thing}, {other}") % sum(_SHARES.values())
    return [split for split, share in _SHARES.items() for _ in range(share)][index]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _look(random: np.random.Generator) -> int:
    return int(random.integers(2**31))
