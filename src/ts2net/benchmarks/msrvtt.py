"""MSR-VTT: 10,000 web clips of 10 to 30 seconds with 20 captions each (Xu et al., CVPR 2016).

Notable here: the protocol is "1k-A". 1,000 test videos with one chosen caption each; training on the other 9,000
(`train`) or on the 7,010 of the data set's own split (`train_7k`) with all the captions of a video. The times in
`MSRVTT_data.json` are those of the web videos that the clips were cut from, so a clip is always read as a whole.
"""

from collections.abc import Iterator
from pathlib import Path

from .reading import caption, distinct_ids, field, read_csv, read_json
from .rows import Benchmark, Row, Split


def read_train(videos_file: Path, captions_file: Path) -> Iterator[Row]:
    """Yields the videos that a CSV file lists, each with all its captions."""
    places = distinct_ids((where, fields["video_id"]) for where, fields in read_csv(videos_file, ("video_id",)))
    captions: dict[str, list[str]] = {video_id: [] for video_id in places}
    data = read_json(captions_file, dict)
    for number, sentence in enumerate(field(data, "sentences", list, str(captions_file))):
        where = f"{captions_file}: sentences[{number}]"
        video_id = field(sentence, "video_id", str, where)
        if video_id in captions:
            captions[video_id].append(caption(field(sentence, "caption", str, where), where))
    for video_id, where in places.items():
        if not captions[video_id]:
            raise ValueError(f"{where}: video {video_id!r} has no caption in {captions_file}")
        yield Row(video_id, tuple(captions[video_id]))


def read_test(pairs_file: Path) -> Iterator[Row]:
    """Yields the pairs of video and caption of a CSV file."""
    rows = list(read_csv(pairs_file, ("video_id", "sentence")))
    places = distinct_ids((where, fields["video_id"]) for where, fields in rows)
    for video_id, (where, fields) in zip(places, rows, strict=True):
        yield Row(video_id, (caption(fields["sentence"], where),))


MSRVTT = Benchmark(
    name="msrvtt",
    title="MSR-VTT",
    splits={
        "train": Split(("MSRVTT_train.9k.csv", "MSRVTT_data.json"), read_train),
        "train_7k": Split(("MSRVTT_train.7k.csv", "MSRVTT_data.json"), read_train),
        "test": Split(("MSRVTT_JSFUSION_test.csv",), read_test),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
