"""Captions of clips: natural English with some variety, chosen by the `look` of a scene."""

import numpy as np

from .things import phrase

_MOTIONS = {
    "left": ("moves left", "moves to the left", "goes left"),
    "right": ("moves right", "moves to the right", "goes right"),
    "up": ("moves up", "rises", "goes up"),
    "down": ("moves down", "sinks", "goes down"),
    "grow": ("grows", "gets bigger", "becomes larger"),
    "shrink": ("shrinks", "gets smaller", "becomes smaller"),
    "turn": ("turns", "turns around", "spins"),
    "stay": ("stays still", "does not move", "stays where it is"),
    "meet": ("meet", "come together", "move towards each other"),
    "part": ("part", "come apart", "move away from each other"),
}
_BESIDE = ("beside", "next to")
_SMALL = ("small", "tiny", "little")
_APPEARANCES = ("{clip}; {small} appears", "{clip} and {small} appears", "{clip} while {small} shows up")


def caption_of(thing: str, motion: str, companion: str | None, small: str | None, look: int) -> str:
    """Describe a scene in words. The phrasing depends only on `look`."""
    variant, beside, adjective, appearance = np.random.default_rng([look, 1]).integers(0, (3, 2, 3, 3))
    verb = _MOTIONS[motion][variant]
    if companion is None:
        clip = f"{phrase(thing)} {verb}"
    elif motion in ("meet", "part"):
        clip = f"{phrase(thing)} and {phrase(companion)} {verb}"
    else:
        clip = f"{phrase(thing)} {_BESIDE[beside]} {phrase(companion)} {verb}"
    if small is None:
        return clip
    return _APPEARANCES[appearance].format(clip=clip, small=phrase(small, _SMALL[adjective]))
