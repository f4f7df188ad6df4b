"""ActivityNet Captions: web videos of two minutes on average, described event by event (Krishna et al., ICCV 2017).

The protocol is paragraph-to-video: all sentences of a video are joined to one query for the whole video, and the times
of the events are not used. The paper reports results on the first of the two sets of validation captions, `val_1`,
with 4,917 videos. `val_ids.json` lists a few more videos, which are left out; their number is logged. Ids keep their
prefix `v_`, as the dataset's own video files do.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as short_repr

from .benchmark import AnnotatedBenchmark, Split
from .captions import CaptionReader
from .reading import distinct_ids, expect, field, read_json
from .rows import Row

logger = logging.getLogger(__name__)


def read(ids_file: Path, captions_file: Path, captions: CaptionReader) -> Iterator[Row]:
    """Yield the listed videos that have captions, each with its paragraph."""
    ids = distinct_ids(
        (f"{ids_file}: [{number}]", value)
        for number, value in enumerate(expect(read_json(ids_file), list, str(ids_file)))
    )
    events = expect(read_json(captions_file), dict, str(captions_file))
    without = [video_id for video_id in ids if video_id not in events]
    if ids and len(without) == len(ids):
        raise ValueError(f"{captions_file}: has no captions for any video of {ids_file}")
    if without:
        logger.warning(
            "%s: %d of %d videos have no captions in %s and are left out: %s",
            *(ids_file, len(without), len(ids), captions_file.name, short_repr(without)),
        )
    for video_id in ids:
        if video_id not in events:
            continue
        location = f"{captions_file}: {video_id}"
        sentences = field(events[video_id], "sentences", list, location)
        texts = [expect(text, str, f"{location}.sentences[{number}]") for number, text in enumerate(sentences)]
        yield Row(video_id, tuple(captions.read(" ".join(texts), f"{location}.sentences")))


def file_names(video_id: str) -> Sequence[str]:
    """Return the id with and without the prefix `v_`, which the dataset's own files have and downloads don't."""
    bare = video_id.removeprefix("v_")
    return (video_id, bare if bare != video_id else f"v_{video_id}")


ACTIVITYNET = AnnotatedBenchmark(
    name="activitynet",
    title="ActivityNet Captions",
    splits={
        "train": Split(("train_ids.json", "train.json"), read, 10_009, 10_009),
        "val": Split(("val_ids.json", "val_1.json"), read, 4_917, 4_917),
    },
    file_names=file_names,
    evaluation_split="val",
    num_frames=64,
    max_words=64,
)
