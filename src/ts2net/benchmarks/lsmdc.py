"""LSMDC 2016: 118,081 short clips of 202 films, described for the blind (Rohrbach et al., IJCV 2017).

A file has no header, and its fields are separated by tabs: the clip's id, four times in the film (start and end of the
description, start and end of the clip), and the sentence. Quotation marks are part of a sentence. A training or
validation clip may have several lines; each of the 1,000 test clips has one. The clips are distributed as separate
files, so their times in the film are not needed.
"""

from collections.abc import Iterator
from pathlib import Path

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .reading import check_id, distinct_ids, read_lines
from .rows import Row

COLUMNS = ("id", "start aligned", "end aligned", "start extracted", "end extracted", "sentence")


def read_clips(path: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield each clip once, with the sentences of all its lines."""
    texts: dict[str, list[str]] = {}
    for location, clip_id, sentence in _read_table(path):
        texts.setdefault(check_id(clip_id, location), []).extend(captions.read(sentence, location))
    for clip_id, sentences in texts.items():
        yield Row(clip_id, tuple(sentences))


def read_pairs(path: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the pairs of clip and sentence. A repeated clip is an error."""
    lines = list(_read_table(path))
    ids = distinct_ids((location, clip_id) for location, clip_id, _ in lines)
    for clip_id, (location, _, sentence) in zip(ids, lines, strict=True):
        yield Row(clip_id, tuple(captions.read(sentence, location)))


def _read_table(path: Path) -> Iterator[tuple[str, str, str]]:
    for location, line in read_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(COLUMNS):
            raise ValueError(
                f"{location}: expected {len(COLUMNS)} fields parted by tabs ({', '.join(COLUMNS)}), "
                f"found {len(fields)}"
            )
        yield location, fields[0], fields[-1]


LSMDC = AnnotatedBenchmark(
    name="lsmdc",
    title="LSMDC",
    splits={
        "train": Split(("LSMDC16_annos_training.csv",), read_clips, 101_046, 101_079),
        "val": Split(("LSMDC16_annos_val.csv",), read_clips, num_captions=7_408),
        "test": Split(("LSMDC16_challenge_1000_publictect.csv",), read_pairs, 1_000, 1_000),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
