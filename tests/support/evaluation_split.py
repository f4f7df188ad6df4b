"""A small split with all cases of evaluation.

It has seven videos, which two processes can't share evenly, with one to three captions and of three lengths. There are
groups of three videos, of two and of one, and a video without a group.
"""

from datasets import Dataset

from support.streamed_data import FEATURES
from support.video_files import encoded

CAPTIONS = [["a red cat", "one"], ["b"], ["a blue dog", "two", "d"], ["e f g"], ["h", "i"], ["j k"], ["l m n o"]]
GROUPS = ["x", "y", None, "x", "alone", "y", "x"]
NUM_VIDEOS, NUM_TEXTS = len(CAPTIONS), sum(map(len, CAPTIONS))


def split(broken: tuple[int, ...] = (), captions: list[list[str]] = CAPTIONS) -> Dataset:
    """Create the split, with the files of the `broken` videos truncated after 100 bytes."""
    rows = [
        {
            "id": f"video{index}",
            "captions": captions[index],
            "start": None,
            "end": None,
            "group": GROUPS[index],
            "video": {"bytes": clip(index)[: 100 if index in broken else None], "path": None},
        }
        for index in range(NUM_VIDEOS)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def clip(index: int) -> bytes:
    """Encode a video of three to five seconds, with a different shape for each index."""
    return encoded(frames=8 * (3 + index % 3), fps=8, size=(64, 48 + 16 * index), container="mp4")
