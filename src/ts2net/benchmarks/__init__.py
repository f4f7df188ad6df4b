"""Benchmarks: those of the TS2-Net paper, MSVD and a synthetic one, as rows of videos and captions with a protocol.

The import needs only the standard library, so that annotation files can be read anywhere.
"""

from .activitynet import ACTIVITYNET
from .benchmark import AnnotatedBenchmark, Benchmark, RenderedBenchmark, RenderedClip, Split
from .captions import CaptionReader
from .didemo import DIDEMO
from .lsmdc import LSMDC
from .msrvtt import MSRVTT
from .msvd import MSVD
from .rows import COLUMN_TYPES, Row
from .vatex import VATEX

MOVING_THINGS = RenderedBenchmark(
    name="moving_things",
    title="Moving things",
    evaluation_split="test",
    num_frames=4,
    max_words=32,  # the longest caption has 25 tokens with the small CLIP's tokenizer
    module="moving_things",
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (MSRVTT, VATEX, LSMDC, ACTIVITYNET, DIDEMO, MSVD, MOVING_THINGS)
}
"""All benchmarks by name."""

__all__ = [
    "BENCHMARKS",
    "COLUMN_TYPES",
    "AnnotatedBenchmark",
    "Benchmark",
    "CaptionReader",
    "RenderedBenchmark",
    "RenderedClip",
    "Row",
    "Split",
]
