"""Scenes: the content of the clips of moving things, their captions, and their splits.

- A stable hash assigns each pair of a thing and a small thing (or, in clips without a small thing, of a thing and a
  motion) to one split, for any seed and number of clips. So no composition is in two splits.
- One in eight pairs of a thing and a motion occurs in `unseen` only.
- A scene's `look` is the seed of everything that the other fields do not define, including the caption's phrasing.
  Scenes with the same look that differ in the motion or the small thing differ in nothing else.
"""

import hashlib
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..rows import Row
from .captions import caption_of
from .things import ROUND, THINGS

STRAIGHT = ("left", "right", "up", "down")
ORDER = ("grow", "shrink", "meet", "part")  # pairs of a motion and its reverse
MOTIONS = (*STRAIGHT, *ORDER, "turn", "stay")
TOGETHER = ("meet", "part")  # motions of two things
_ALONE = tuple(motion for motion in MOTIONS if motion not in TOGETHER)
_IN_COMPANY = tuple(motion for motion in MOTIONS if motion not in STRAIGHT)
GROUP_SIZE = 4  # number of clips in a group of a diagnostic split, and in a family of the training split

# Number of pairs, out of 20, that belong to each split.
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
# Splits in which a caption matches one clip only, so that the pairs of a thing and a motion limit the number of clips.
_MOST_CLIPS = {"validation": 500, "test": 500, "unseen": 80}
_WITH_COMPANION = 0.25
_WITHOUT_SMALL_THING = 0.2
_FAMILIES_WITHOUT = 0.3


@dataclass(frozen=True)
class Scene:
    """Content of a clip.

    Attributes:
        video_id: Id of the clip, which begins with its split.
        thing: The moving thing: one of `THINGS`.
        motion: Motion of the thing: one of `MOTIONS`.
        companion: A second thing, which moves only in `meet` and `part`; `None` if there is none.
        small: A small thing that appears for one to three seconds; `None` if there is none.
        look: Seed of everything that the other fields do not define: background, sizes, locations, times and phrasing.
        group: Name of the group of similar clips that the clip belongs to: the candidates in a diagnostic split, a
            family in the training split.
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
        """Caption of the clip."""
        return caption_of(self.thing, self.motion, self.companion, self.small, self.look)

    @property
    def row(self) -> Row:
        """The scene as a row of a benchmark."""
        return Row(self.video_id, (self.caption,), group=self.group)


def may_show(split: str, thing: str, motion: str, small: str | None) -> bool:
    """Whether a split may show this composition. At most one split may."""
    if (motion == "turn" and thing in ROUND) or (_hash(f"{thing} {motion}") % 8 == 0) != (split == "unseen"):
        return False
    return split == ("unseen" if split == "unseen" and small is None else _share(thing, small or motion))


def scenes(split: str, count: int | None = None, seed: int = 0) -> list[Scene]:
    """Draw the scenes of a split. A smaller `count` returns a prefix of the same scenes.

    - `train` consists of families: four successive scenes of the same thing, with two motions times two small things.
    - `validation`, `test`, `unseen`: each caption matches one clip of the split only. The pairs of thing and motion in
      `unseen` do not occur in other splits.
    - `motion`: groups of four that differ only in the direction (`STRAIGHT`) or the order (`ORDER`) of a motion.
    - `small_object`: groups of four that differ only in the small thing.

    Args:
        split: One of `SPLITS`.
        count: Number of scenes; `None` uses `DEFAULT_COUNTS`.
        seed: Seed of the scenes.

    Raises:
        ValueError: If there is no such split, or `count` is below 1, too large or not a multiple of the group size.
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
        turns = turns or random.permutation(len(THINGS)).tolist()  # so that all things are equally frequent
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
    captioned: set[tuple] = set()  # pairs of a thing and a motion in captions
    shown: set[tuple] = set()  # pairs in clips, which show more than their captions mention
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
