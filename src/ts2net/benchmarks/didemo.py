"""DiDeMo: 10,464 personal videos with descriptions of single moments (Hendricks et al., ICCV 2017).

Notable here: the protocol is paragraph to video. All descriptions of a video, joined in the order of the file, are
one query; their times aren't used. Whoever described the videos saw 30 seconds of each, so no more than that is read.
An id is the name of the file that was once uploaded, with its ending.
"""

from collections.abc import Iterator
from pathlib import Path

from .reading import caption, distinct_ids, field, read_json, read_lines
from .rows import Benchmark, Row, Split

SECONDS = 30.0  # of a video that were shown to those who described it


def read(videos_file: Path, descriptions_file: Path) -> Iterator[Row]:
    """Yields the videos of a list, each with the paragraph of its descriptions."""
    places = distinct_ids((where, line.strip()) for where, line in read_lines(videos_file))
    descriptions: dict[str, list[str]] = {video_id: [] for video_id in places}
    for number, moment in enumerate(read_json(descriptions_file, list)):
        where = f"{descriptions_file}: [{number}]"
        video_id = field(moment, "video", str, where)
        if video_id in descriptions:
            descriptions[video_id].append(field(moment, "description", str, where))
    for video_id, where in places.items():
        if not descriptions[video_id]:
            raise ValueError(f"{where}: video {video_id!r} has no description in {descriptions_file}")
        paragraph = caption(" ".join(descriptions[video_id]), f"{descriptions_file}: {video_id}")
        yield Row(video_id, (paragraph,), start=0.0, end=SECONDS)


DIDEMO = Benchmark(
    name="didemo",
    title="DiDeMo",
    splits={
        "train": Split(("train_list.txt", "train_data.json"), read),
        "val": Split(("val_list.txt", "val_data.json"), read),
        "test": Split(("test_list.txt", "test_data.json"), read),
    },
    evaluation_split="test",
    num_frames=64,
    max_words=64,
)
