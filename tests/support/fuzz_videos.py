"""Hold processor, search's stream and re-encoding against plain decoding of drawn files, for as long as is wanted.

    PYTHONPATH=tests python -m support.fuzz_videos --seconds 600 --seed 1

Prints each drawn file with which the package disagrees, and its seed: `--seed N --count 1` repeats it.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av

from .corpus.checks import disagreements
from .corpus.fuzzing import Drawn, draw, make

MAX_SECONDS = 60  # limit for all checks of a file on a busy machine; normally they take about a second


def run(first: int, seconds: float, count: int | None = None) -> Iterator[tuple[Drawn, list[str] | None]]:
    """Check the drawings of consecutive seeds until the time is over or `count` seeds were tried.

    Yields:
        Each drawing with its disagreements, or with None if FFmpeg can't write the file.
    """
    av.logging.set_level(None)
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end and (count is None or seed < first + count):
        drawn = draw(seed)
        seed += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                case = make(drawn, Path(folder))
            except (av.FFmpegError, ValueError):
                yield drawn, None
                continue
            begin = time.monotonic()
            complaints = disagreements(case)
            lasted = time.monotonic() - begin
            yield drawn, complaints + ([f"took {lasted:.0f} s"] if lasted > MAX_SECONDS else [])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--count", type=int, help="how many, at most")
    arguments = parser.parse_args()
    checked = unwritten = wrong = 0
    for drawn, complaints in run(arguments.seed, arguments.seconds, arguments.count):
        if complaints is None:
            unwritten += 1
            continue
        checked += 1
        if complaints:
            wrong += 1
            print(drawn, *(f"    {line}" for line in complaints), sep="\n", flush=True)
    print(f"{checked} files checked, {unwritten} that FFmpeg does not write, {wrong} with disagreements")


if __name__ == "__main__":
    main()
