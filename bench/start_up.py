"""Time of a command-line search in a small index, with the text tower alone and with the whole model.

    python bench/start_up.py demo/model demo/clips

Creates an index on ONNX Runtime. Then three commands alternate: a search with the index's text tower alone, a search
that loads the model (`--model`), and a bare import of torch and transformers' CLIP, which every program that runs a
model needs. Reports wall time and processor time, because other programs disturb the processor time less.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = "import torch and transformers' CLIP"


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Measure wall and processor seconds of a process."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("videos", help="a folder of a few videos")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ts2net = [sys.executable, "-m", "ts2net"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HF_ASSETS_CACHE": f"{folder}/assets"}
        index = f"{folder}/index"
        command = [*ts2net, "index", args.videos, "--model", args.model, "--out", index, "--runtime", "onnx"]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        search = [*ts2net, "search", index, "a red circle", "--min-score=-inf"]
        contenders = {
            "search with the model loaded": [*search, "--model", args.model],
            "search by the text tower": search,
            IMPORTS: [sys.executable, "-c", "import torch; from transformers import CLIPModel"],
        }
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(args.rounds):
            for name, command in contenders.items():
                figures[name].append(seconds(command, environment))
    print("| | wall seconds | processor seconds | of those of the imports |")
    print("| --- | ---: | ---: | ---: |")
    imports = [processor for _, processor in figures[IMPORTS]]
    for name, measurements in figures.items():
        walls, processors = zip(*measurements, strict=True)
        shares = [processor / baseline for processor, baseline in zip(processors, imports, strict=True)]
        print(
            f"| {name} | {statistics.median(walls):.1f} ({min(walls):.1f} to {max(walls):.1f}) "
            f"| {statistics.median(processors):.1f} ({min(processors):.1f} to {max(processors):.1f}) "
            f"| {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) |"
        )


if __name__ == "__main__":
    main()
