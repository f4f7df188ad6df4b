"""Small data sets with the standard columns, as streams of shards, for the tests of their readers."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from datasets import Features, IterableDataset, List, Value, Video

from support.video_files import encoded

FEATURES = Features(
    {
        "id": Value("string"),
        "captions": List(Value("string")),
        "start": Value("float64"),
        "end": Value("float64"),
        "group": Value("string"),
        "video": Video(decode=False),
    }
)


@cache
def clip(number: int) -> bytes:
    """Encode a video of 1 to 3 seconds, different for each number."""
    return encoded(container="mp4", size=(32 + 2 * number, 32), frames=8 * (1 + number % 3), fps=8)


def row(number: int, num_captions: int = 1, **values: Any) -> dict[str, Any]:
    """Create a row with a clip, and captions that contain its number."""
    captions = [f"clip {number} text {text}" for text in range(num_captions)]
    standard = {"start": None, "end": None, "group": None, "video": {"bytes": clip(number), "path": None}}
    return {"id": f"clip{number}", "captions": captions, **standard, **values}


def stream(shards: list[list[dict[str, Any]]]) -> IterableDataset:
    """Create a stream of shards from their rows."""
    return IterableDataset.from_generator(_rows, features=FEATURES, gen_kwargs={"shards": shards})


def _rows(shards: Iterable[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        yield from shard
