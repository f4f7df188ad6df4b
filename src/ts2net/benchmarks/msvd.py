"""MSVD: 1,970 web clips with about 40 English captions each (Chen and Dolan, ACL 2011).

All captions of a video are queries, also in the test split. `raw-captions.pkl` is distributed as a pickle, of which
only plain values are read; `raw-captions.json` has the same content. A caption is a list of words or a sentence.
"""

from collections.abc import Iterator
from pathlib import Path

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .id_lists import read_ids
from .plain_pickle import read_plain_pickle
from .reading import distinct_ids, expect, field, read_json
from .rows import Row


def read(videos_file: Path, captions_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the videos of a list, each with all its captions."""
    locations = distinct_ids(read_ids(videos_file))
    content = read_plain_pickle(captions_file) if captions_file.suffix == ".pkl" else read_json(captions_file)
    words_of = expect(content, dict, str(captions_file))
    for video_id, location in locations.items():
        if not words_of.get(video_id):
            raise ValueError(f"{location}: video {video_id!r} has no caption in {captions_file}")
        entry = f"{captions_file}: {video_id}"
        sentences = field(words_of, video_id, list, str(captions_file))
        texts: list[str] = []
        for number, value in enumerate(sentences):
            texts += captions.read(_sentence(value, f"{entry}[{number}]"), f"{entry}[{number}]")
        yield Row(video_id, tuple(texts))


def _sentence(value: object, location: str) -> str:
    """Join the words of a caption with spaces."""
    if isinstance(value, str):
        return value
    return " ".join(expect(word, str, location) for word in expect(value, list, location))


def _split(list_file: str, num_videos: int) -> Split:
    alternatives = {"raw-captions.pkl": ("raw-captions.json",)}
    return Split((list_file, "raw-captions.pkl"), read, num_videos, alternatives=alternatives)


MSVD = AnnotatedBenchmark(
    name="msvd",
    title="MSVD",
    splits={
        "train": _split("train_list.txt", 1_200),
        "val": _split("val_list.txt", 100),
        "test": _split("test_list.txt", 670),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
