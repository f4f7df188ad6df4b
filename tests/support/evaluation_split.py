"""A small split with everything that evaluation has to get right.

Seven videos, which two processes can't share evenly, of one to three captions and of three lengths; in groups of
three, of two and of one, and in none.
"""

from datasets import Dataset

from support.streamed_data import FEATURES
from support.video_files import encoded

CAPTIONS = [["a red cat", "one"], ["b"], ["a blue dog", "two", "d"], ["e f g"], ["h", "i"], ["j k"], ["l m n o"]]
GROUPS = ["x", "y", None, "x", "alone", "y", "x"]
NUM_VIDEOS, NUM_TEXTS = len(CAPTIONS), sum(map(len, CAPTIONS))


def split(broken: tuple[int, ...] = (), captions: list[list[str]] = CAPTIONS) -> Dataset:
    """The split, with the chosen videos cut off after a few bytes."""
    rows = [
        {
            "id": f"video{place}",
            "captions": captions[place],
            "start": None,
            "end": None,
            "group": GROUPS[place],
            "video": {"bytes": clip(place)[: 100 if place in broken else None], "path": None},
        }
        for place in range(NUM_VIDEOS)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def clip(place: int) -> bytes:
    """A video of its own shape, of three to five seconds."""
    return encoded(frames=8 * (3 + place % 3), fps=8, size=(64, 48 + 16 * place), container="mp4")
