"""The five benchmarks of the TS2-Net paper: their annotation files in, rows of video and captions out.

Notable here: nothing but the standard library is needed, and nothing else of this package. A benchmark says which
files a split is read from, how, and the recipe's defaults; it never looks at a video.
"""

from .activitynet import ACTIVITYNET
from .didemo import DIDEMO
from .lsmdc import LSMDC
from .msrvtt import MSRVTT
from .rows import Benchmark, Row, Split
from .vatex import VATEX

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (MSRVTT, VATEX, LSMDC, ACTIVITYNET, DIDEMO)
}

__all__ = ["BENCHMARKS", "Benchmark", "Row", "Split"]
