"""VATEX: clips of 10 seconds with 10 English captions each (Wang et al., ICCV 2019).

All captions of a video are queries, also in the test split. The 1,500 test videos are half of the dataset's own
validation split, as selected by Chen et al. (CVPR 2020). An id ends with the seconds of the web video that the clip
was cut from; the clip is read as a whole.

Captions are read from `ref_captions.json` of Chen et al. or from the official `vatex_*_v1.0.json`. Ids are read from
the text or `.npy` lists of Chen et al., or, for training, from the official file.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .id_lists import read_ids
from .reading import distinct_ids, expect, field, read_json
from .rows import Row

_OFFICIAL_TRAIN, _OFFICIAL_VALIDATION = "vatex_training_v1.0.json", "vatex_validation_v1.0.json"


def read(videos_file: Path, captions_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the videos of a list, each with all its captions."""
    located_ids = _official_ids(videos_file) if videos_file.suffix == ".json" else read_ids(videos_file)
    locations = distinct_ids(located_ids)
    sentences_of = _captions_of_videos(captions_file)
    for video_id, location in locations.items():
        if not sentences_of.get(video_id):
            raise ValueError(f"{location}: video {video_id!r} has no caption in {captions_file}")
        sentences = field(sentences_of, video_id, list, str(captions_file))
        entry = f"{captions_file}: {video_id}"
        texts = [captions.read(sentence, f"{entry}[{number}]") for number, sentence in enumerate(sentences)]
        yield Row(video_id, tuple(itertools.chain.from_iterable(texts)))


def _official_ids(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the location and the id of each video of an official file."""
    for number, entry in enumerate(expect(read_json(path), list, str(path))):
        yield f"{path}: [{number}].videoID", field(entry, "videoID", str, f"{path}: [{number}]")


def _captions_of_videos(path: Path) -> dict[str, object]:
    """Return the English captions of each video, from an official file or from a file of captions by id."""
    content = read_json(path)
    if not isinstance(content, list):
        return expect(content, dict, str(path))
    distinct_ids(_official_ids(path))
    return {entry["videoID"]: field(entry, "enCap", list, f"{path}: [{n}]") for n, entry in enumerate(content)}


VATEX = AnnotatedBenchmark(
    name="vatex",
    title="VATEX",
    splits={
        "train": Split(
            ("train_list.txt", "ref_captions.json"),
            read,
            25_991,
            259_910,
            {
                "train_list.txt": ("train_list.npy", "trn_names.npy", _OFFICIAL_TRAIN),
                "ref_captions.json": (_OFFICIAL_TRAIN,),
            },
        ),
        "test": Split(
            ("test_list.txt", "ref_captions.json"),
            read,
            1_500,
            15_000,
            {
                "test_list.txt": ("test_list.npy", "tst_names.npy"),
                "ref_captions.json": (_OFFICIAL_VALIDATION,),
            },
        ),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
