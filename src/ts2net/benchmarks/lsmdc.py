"""LSMDC 2016: 118,081 short clips of 202 films, described for the blind (Rohrbach et al., IJCV 2017).

Notable here: a file has no heading, and its fields are parted by tabs: the clip's id, four times in the film (where
the description begins and ends, where the clip does), and the sentence. Quotation marks are part of a sentence. In
training and validation a clip may stand in several lines; each of the 1,000 test clips stands in one. The clips come
cut, so their times in the film aren't needed.
"""

from collections.abc import Iterator
from pathlib import Path

from .reading import caption, check_id, distinct_ids, read_lines
from .rows import Benchmark, Row, Split

COLUMNS = ("id", "start aligned", "end aligned", "start extracted", "end extracted", "sentence")


def read_clips(path: Path) -> Iterator[Row]:
    """Yields each clip once, with the sentences of all its lines."""
    captions: dict[str, list[str]] = {}
    for where, clip_id, sentence in _read_table(path):
        captions.setdefault(check_id(clip_id, where), []).append(caption(sentence, where))
    for clip_id, sentences in captions.items():
        yield Row(clip_id, tuple(sentences))


def read_pairs(path: Path) -> Iterator[Row]:
    """Yields the pairs of clip and sentence, where no clip may stand twice."""
    lines = list(_read_table(path))
    places = distinct_ids((where, clip_id) for where, clip_id, _ in lines)
    for clip_id, (where, _, sentence) in zip(places, lines, strict=True):
        yield Row(clip_id, (caption(sentence, where),))


def _read_table(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, line in read_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(COLUMNS):
            raise ValueError(
                f"{where}: expected {len(COLUMNS)} fields parted by tabs ({', '.join(COLUMNS)}), found {len(fields)}"
            )
        yield where, fields[0], fields[-1]


LSMDC = Benchmark(
    name="lsmdc",
    title="LSMDC",
    splits={
        "train": Split(("LSMDC16_annos_training.csv",), read_clips),
        "val": Split(("LSMDC16_annos_val.csv",), read_clips),
        "test": Split(("LSMDC16_challenge_1000_publictect.csv",), read_pairs),
    },
    evaluation_split="test",
    num_frames=12,
    max_words=32,
)
