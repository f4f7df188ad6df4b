"""DiDeMo: 10,464 personal videos with descriptions of single moments (Hendricks et al., ICCV 2017).

The protocol is paragraph-to-video: all descriptions of a video are joined in the order of the file to one query, and
their times are not used. The annotators saw the first 30 seconds of a video. The published figures use frames from
second 0 to second 31, so the same range is read here. An id is the name of the originally uploaded file with its
extension; some ids end with a dot and no extension.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .id_lists import read_ids
from .reading import distinct_ids, expect, field, read_json
from .rows import Row

SECONDS = 31.0  # end of the range that the released loader reads of a video


def read(videos_file: Path, descriptions_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the videos of a list, each with the paragraph of its descriptions."""
    locations = distinct_ids(read_ids(videos_file))
    descriptions: dict[str, list[str]] = {video_id: [] for video_id in locations}
    moments = expect(read_json(descriptions_file), list, str(descriptions_file))
    for number, moment in enumerate(moments):
        location = f"{descriptions_file}: [{number}]"
        video_id = field(moment, "video", str, location)
        if video_id in descriptions:
            descriptions[video_id].append(field(moment, "description", str, location))
    for video_id, location in locations.items():
        if not descriptions[video_id]:
            raise ValueError(f"{location}: video {video_id!r} has no description in {descriptions_file}")
        paragraph = captions.read(" ".join(descriptions[video_id]), f"{descriptions_file}: {video_id}")
        yield Row(video_id, tuple(paragraph), start=0.0, end=SECONDS)


def file_names(video_id: str) -> Sequence[str]:
    """Return the id with and without its extension, or final dot, because a converted file may have lost it."""
    stem = video_id.rpartition(".")[0]
    return (video_id, stem) if stem.strip(".") else (video_id,)


DIDEMO = AnnotatedBenchmark(
    name="didemo",
    title="DiDeMo",
    splits={
        "train": Split(("train_list.txt", "train_data.json"), read, 8_395, 8_395),
        "val": Split(("val_list.txt", "val_data.json"), read, 1_065, 1_065),
        "test": Split(("test_list.txt", "test_data.json"), read, 1_004, 1_004),
    },
    file_names=file_names,
    evaluation_split="test",
    num_frames=64,
    max_words=64,
)
