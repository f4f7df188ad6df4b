"""MSR-VTT: 10,000 web clips of 10 to 30 seconds with 20 captions each (Xu et al., CVPR 2016).

The protocol is "1k-A": 1,000 test videos with one chosen caption each. Training uses all captions of the other 9,000
videos (`train`), or of the 7,010 videos of the dataset's own split (`train_7k`). The times in `MSRVTT_data.json` refer
to the web videos that the clips were cut from, so a clip is read as a whole.
"""

from collections.abc import Iterator
from pathlib import Path

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .reading import distinct_ids, expect, field, read_csv, read_json
from .rows import Row


def read_train(videos_file: Path, captions_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the videos listed in a CSV file, each with all its captions."""
    listed = read_csv(videos_file, ("video_id",))
    locations = distinct_ids((location, fields["video_id"]) for location, fields in listed)
    texts: dict[str, list[str]] = {}
    data = expect(read_json(captions_file), dict, str(captions_file))
    for number, sentence in enumerate(field(data, "sentences", list, str(captions_file))):
        location = f"{captions_file}: sentences[{number}]"
        video_id = field(sentence, "video_id", str, location)
        if video_id in locations:
            texts.setdefault(video_id, []).extend(captions.read(field(sentence, "caption", str, location), location))
    for video_id, location in locations.items():
        if video_id not in texts:
            raise ValueError(f"{location}: video {video_id!r} has no caption in {captions_file}")
        yield Row(video_id, tuple(texts[video_id]))


def read_test(pairs_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the pairs of video and caption of a CSV file."""
    rows = list(read_csv(pairs_file, ("video_id", "sentence")))
    ids = distinct_ids((location, fields["video_id"]) for location, fields in rows)
    for video_id, (location, fields) in zip(ids, rows, strict=True):
        yield Row(video_id, tuple(captions.read(fields["sentence"], location)))


MSRVTT = AnnotatedBenchmark(
    name="msrvtt",
    title="MSR-VTT",
    splits={
        "train": Split(("MSRVTT_train.9k.csv", "MSRVTT_data.json"), read_train, 9_000, 180_000),
        "train_7k": Split(("MSRVTT_train.7k.csv", "MSRVTT_data.json"), read_train, 7_010, 140_200),
        "test": Split(("MSRVTT_JSFUSION_test.csv",), read_test, 1_000, 1_000),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
