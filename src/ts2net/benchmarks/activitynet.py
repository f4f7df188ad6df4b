"""ActivityNet Captions: web videos of two minutes on average, described event by event (Krishna et al., ICCV 2017).

Notable here: the protocol is paragraph to video. All sentences of a video, joined, are one query for the whole of it;
the times of the events aren't used. The paper reports the first of the two sets of validation captions, `val_1`,
which has no captions for a few of the videos that `val_ids.json` lists: those are left out, and their number is
logged. Ids keep their `v_`, as the data set's own video files do.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short_repr

from .reading import caption, distinct_ids, expect, field, read_json
from .rows import Benchmark, Row, Split

logger = logging.getLogger(__name__)


def read(ids_file: Path, captions_file: Path) -> Iterator[Row]:
    """Yields the listed videos that have captions, each with its paragraph."""
    places = distinct_ids((f"{ids_file}: [{number}]", value) for number, value in enumerate(read_json(ids_file, list)))
    events = read_json(captions_file, dict)
    without = [video_id for video_id in places if video_id not in events]
    if places and len(without) == len(places):
        raise ValueError(f"{captions_file}: has no captions for any video of {ids_file}")
    if without:
        logger.warning(
            "%s: %d of %d videos have no captions in %s and are left out: %s",
            *(ids_file, len(without), len(places), captions_file.name, short_repr(without)),
        )
    for video_id in places:
        if video_id not in events:
            continue
        where = f"{captions_file}: {video_id}"
        sentences = field(events[video_id], "sentences", list, where)
        texts = [expect(text, str, f"{where}.sentences[{number}]") for number, text in enumerate(sentences)]
        yield Row(video_id, (caption(" ".join(texts), f"{where}.sentences"),))


ACTIVITYNET = Benchmark(
    name="activitynet",
    title="ActivityNet Captions",
    splits={
        "train": Split(("train_ids.json", "train.json"), read),
        "val": Split(("val_ids.json", "val_1.json"), read),
    },
    evaluation_split="val",
    num_frames=64,
    max_words=64,
)
