"""VATEX: clips of 10 seconds with 10 English captions each (Wang et al., ICCV 2019).

Notable here: all captions of a video are queries, in the test too. The test's 1,500 videos are half of the data set's
own validation split, as Chen et al. (CVPR 2020) drew it. An id ends with the seconds of the web video that the clip
was cut from; the clip is read as a whole.
"""

from collections.abc import Iterator
from pathlib import Path

from .reading import caption, distinct_ids, field, read_json, read_lines
from .rows import Benchmark, Row, Split


def read(videos_file: Path, captions_file: Path) -> Iterator[Row]:
    """Yields the videos of a list, each with all its captions."""
    places = distinct_ids((where, line.strip()) for where, line in read_lines(videos_file))
    captions = read_json(captions_file, dict)
    for video_id, where in places.items():
        if not captions.get(video_id):
            raise ValueError(f"{where}: video {video_id!r} has no caption in {captions_file}")
        sentences = field(captions, video_id, list, str(captions_file))
        entry = f"{captions_file}: {video_id}"
        yield Row(video_id, tuple(caption(text, f"{entry}[{number}]") for number, text in enumerate(sentences)))


VATEX = Benchmark(
    name="vatex",
    title="VATEX",
    splits={
        "train": Split(("train_list.txt", "ref_captions.json"), read),
        "test": Split(("test_list.txt", "ref_captions.json"), read),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
