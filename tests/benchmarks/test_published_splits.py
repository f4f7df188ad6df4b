"""Sizes and protocol of the splits equal those of the released loaders, for full-size files in the published formats.

The ids and sentences are invented. The numbers of entries, including ignored entries, are those of the originals.
"""

import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from ts2net.benchmarks import BENCHMARKS, AnnotatedBenchmark, Row

pytestmark = pytest.mark.slow

ANNOTATED = {name: benchmark for name, benchmark in BENCHMARKS.items() if isinstance(benchmark, AnnotatedBenchmark)}


def write_msrvtt(folder: Path) -> None:
    """One file has 20 sentences for each of 10,000 videos. Other files define the splits."""
    sentences = [
        {"sen_id": number, "video_id": f"video{number // 20}", "caption": f"caption {number}"}
        for number in range(200_000)
    ]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"info": {}, "videos": [], "sentences": sentences}))
    for name, count in [("9k", 9_000), ("7k", 7_010)]:
        ids = [f"video{number}" for number in range(count)]
        (folder / f"MSRVTT_train.{name}.csv").write_text("\n".join(["video_id", *ids]) + "\n")
    pairs = [f"ret{n},msr{n},video{9_000 + n},a sentence" for n in range(1_000)]
    text = "\n".join(["key,vid_key,video_id,sentence", *pairs]) + "\n"
    (folder / "MSRVTT_JSFUSION_test.csv").write_text(text)


def write_vatex(folder: Path) -> None:
    """The lists of Chen et al. omit half of the validation split, although the caption file includes it."""
    ids = [f"{number:011d}_000010_000020" for number in range(25_991 + 3_000)]
    captions = {video_id: [f"caption {n} of {video_id}" for n in range(10)] for video_id in ids}
    (folder / "ref_captions.json").write_text(json.dumps(captions))
    (folder / "train_list.txt").write_text("\n".join(ids[:25_991]))
    (folder / "test_list.txt").write_text("\n".join(ids[-1_500:]))


def write_lsmdc(folder: Path) -> None:
    """33 clips of the training split have two lines."""

    def lines(numbers: Iterator[int]) -> str:
        return "".join(f"{1000 + n % 200}_Film_{n:06d}\t0\t1\t0\t1\tSOMEONE does {n}.\n" for n in numbers)

    (folder / "LSMDC16_annos_training.csv").write_text(lines(itertools.chain(range(101_046), range(33))))
    (folder / "LSMDC16_annos_val.csv").write_text(lines(iter(range(7_408))))
    (folder / "LSMDC16_challenge_1000_publictect.csv").write_text(lines(iter(range(1_000))))


def write_activitynet(folder: Path) -> None:
    """The list of validation videos has more videos than the first caption file."""
    for ids_file, captions_file, listed, described in [
        ("train_ids.json", "train.json", 10_009, 10_009),
        ("val_ids.json", "val_1.json", 4_926, 4_917),
    ]:
        ids = [f"v_{number:011d}" for number in range(listed)]
        events = {"duration": 60.0, "timestamps": [[0, 30], [30, 60]], "sentences": ["One.", " Two."]}
        (folder / ids_file).write_text(json.dumps(ids))
        (folder / captions_file).write_text(json.dumps(dict.fromkeys(ids[:described], events)))


def write_didemo(folder: Path) -> None:
    """Each video has three to five descriptions, and some ids end in a dot."""
    for split, count in [("train", 8_395), ("val", 1_065), ("test", 1_004)]:
        ids = [f"{n}@N00_{n:010d}_abc.{'' if n % 54 == 0 else 'mov'}" for n in range(count)]
        moments = [
            {"video": video_id, "description": f"moment {k}", "times": [[k, k]]}
            for n, video_id in enumerate(ids)
            for k in range(3 + n % 3)
        ]
        (folder / f"{split}_list.txt").write_text("\n".join(ids) + "\n")
        (folder / f"{split}_data.json").write_text(json.dumps(moments))


def write_msvd(folder: Path) -> None:
    """One file has all captions as lists of words. The number of captions varies by video."""
    ids = [f"{number:011d}_0_10" for number in range(1_970)]
    captions = {video_id: [["a", "man", str(k)] for k in range(18 + n % 63)] for n, video_id in enumerate(ids)}
    (folder / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    for split, start, end in [("train", 0, 1_200), ("val", 1_200, 1_300), ("test", 1_300, 1_970)]:
        (folder / f"{split}_list.txt").write_text("\n".join(ids[start:end]) + "\n")


WRITERS = {
    "msrvtt": write_msrvtt,
    "vatex": write_vatex,
    "lsmdc": write_lsmdc,
    "activitynet": write_activitynet,
    "didemo": write_didemo,
    "msvd": write_msvd,
}

# Videos and captions of each split, as the released loaders count them; None is not published.
PUBLISHED = {
    ("msrvtt", "train"): (9_000, 180_000),
    ("msrvtt", "train_7k"): (7_010, 140_200),
    ("msrvtt", "test"): (1_000, 1_000),
    ("vatex", "train"): (25_991, 259_910),
    ("vatex", "test"): (1_500, 15_000),
    ("lsmdc", "train"): (101_046, 101_079),
    ("lsmdc", "val"): (7_408, 7_408),
    ("lsmdc", "test"): (1_000, 1_000),
    ("activitynet", "train"): (10_009, 10_009),
    ("activitynet", "val"): (4_917, 4_917),
    ("didemo", "train"): (8_395, 8_395),
    ("didemo", "val"): (1_065, 1_065),
    ("didemo", "test"): (1_004, 1_004),
    ("msvd", "train"): (1_200, None),
    ("msvd", "val"): (100, None),
    ("msvd", "test"): (670, None),
}


@pytest.fixture(scope="module", params=ANNOTATED)
def splits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """The name of a benchmark and the rows of all its splits."""
    folder = tmp_path_factory.mktemp(request.param)
    WRITERS[request.param](folder)
    benchmark = ANNOTATED[request.param]
    return request.param, {split: list(benchmark.rows(folder, split)) for split in benchmark.splits}


def test_splits_have_the_published_size(splits: tuple[str, dict[str, list[Row]]]) -> None:
    """The splits have the published numbers of videos and captions, which the registry checks too."""
    name, rows_of = splits
    for split, rows in rows_of.items():
        num_videos, num_captions = PUBLISHED[name, split]
        assert len(rows) == num_videos
        assert num_captions in (sum(len(row.captions) for row in rows), None)
        published = ANNOTATED[name].splits[split]
        assert published.num_videos in (num_videos, None)
        assert published.num_captions == num_captions


def test_splits_follow_the_published_protocol(splits: tuple[str, dict[str, list[Row]]]) -> None:
    """Rows have one or all captions, as sentences or a paragraph, and the part of the video that the protocol uses."""
    name, rows_of = splits
    row = rows_of[ANNOTATED[name].evaluation_split][0]
    captions = {
        "msrvtt": ("a sentence",),
        "vatex": tuple(f"caption {n} of {row.video_id}" for n in range(10)),
        "lsmdc": ("SOMEONE does 0.",),
        "activitynet": ("One. Two.",),
        "msvd": tuple(f"a man {k}" for k in range(18 + 1_300 % 63)),
        "didemo": ("moment 0 moment 1 moment 2",),
    }
    assert row.captions == captions[name]
    assert (row.start, row.end) == ((0.0, 31.0) if name == "didemo" else (None, None))
    assert row.group is None
