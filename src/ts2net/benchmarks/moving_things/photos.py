"""Photos of the things: pictures with captions, the training data of the small CLIP."""

from dataclasses import dataclass

import numpy as np

from .things import THINGS, phrase

LOCATIONS = (
    ("at the top left", "at the top", "at the top right"),
    ("at the left", "in the middle", "at the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
_NUM_THINGS = (0.3, 0.35, 0.25, 0.1)  # shares of photos with 1, 2, 3 and 4 things
_SIZES = (0.145, 0.6)  # smallest and largest size, relative to the frame's side


@dataclass(frozen=True)
class Photo:
    """Content of a photo.

    Attributes:
        things: The things, all different, the largest first.
        sizes: Length of the longer side of each thing, relative to the frame's side.
        x: Column of the centre of each thing, relative to the frame's width.
        y: Row of the centre of each thing, relative to the frame's height.
        look: Seed of the background and of mirroring.
    """

    things: tuple[str, ...]
    sizes: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    look: int

    def location(self, index: int = 0) -> str:
        """Describe the location of a thing in words."""
        return LOCATIONS[min(2, int(3 * self.y[index]))][min(2, int(3 * self.x[index]))]

    def caption(self, *, with_location: bool, also: tuple[int, ...] = ()) -> str:
        """Describe the largest thing in words.

        Args:
            with_location: Whether to add the location of the largest thing.
            also: Indices of other things to name.
        """
        location = f" {self.location()}" if with_location else ""
        return " and ".join([phrase(self.things[0]) + location, *(phrase(self.things[index]) for index in also)])


def photos(count: int, seed: int = 0) -> list[Photo]:
    """Draw random photos. A smaller `count` returns a prefix of the same photos.

    Raises:
        ValueError: If `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    random = np.random.default_rng([seed, 1000])
    return [_photo(random) for _ in range(count)]


def _photo(random: np.random.Generator) -> Photo:
    number = 1 + int(random.choice(len(_NUM_THINGS), p=_NUM_THINGS))
    smallest, largest = _SIZES
    # Squares of uniform numbers, so that small things are more frequent than large ones, as in real pictures.
    sizes = sorted((smallest + (largest - smallest) * random.uniform(0, 1, number) ** 2).tolist(), reverse=True)
    things = tuple(THINGS[index] for index in random.choice(len(THINGS), number, replace=False))
    centres: list[tuple[float, float]] = []
    for size in sizes:
        for _ in range(12):
            x, y = random.uniform(size / 2, 1 - size / 2, 2).tolist()
            if all(
                max(abs(x - left), abs(y - top)) > 0.45 * (size + other)
                for (left, top), other in zip(centres, sizes, strict=False)
            ):
                break
        centres.append((x, y))
    return Photo(
        things,
        tuple(sizes),
        tuple(x for x, _ in centres),
        tuple(y for _, y in centres),
        look=int(random.integers(2**31)),
    )
