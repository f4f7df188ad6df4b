"""Time and peak memory of evaluating 1,000 texts by 1,000 videos, with and without matching in blocks.

    python bench/evaluation.py
    python bench/evaluation.py --rank-only --texts 50000 --videos 20000

Both ways rank the same synthetic embeddings in both directions, with and without the dual softmax. "blocks" is the
implementation of `evaluate_retrieval`. "at once" matches all texts and videos in one call and keeps the cosine of
every text with every frame. Each way runs in separate processes, so that its peak memory is its own. The ways
alternate, so that a disturbance affects both. The extra peak is the process's peak resident memory (from `/proc`, so
on Linux) minus its peak before the evaluation.

`--rank-only` skips the matching and ranks scores from a memory-mapped file in three ways: plain, with the dual
softmax, and with a querybank of the same size. The scores are all 0 and the file is sparse, so it needs no disk space.
The pages read from it count as resident memory, so the size of the scores is subtracted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ts2net import TS2NetConfig, TS2NetModel
from ts2net.data.evaluation_videos import EvaluationRow
from ts2net.evaluation import Querybank, retrieval, retrieval_metrics
from ts2net.evaluation.encoding import EncodedSplit
from ts2net.modeling_ts2net import match


def synthetic_split(texts: int, videos: int, frames: int, width: int) -> EncodedSplit:
    """Create texts near their videos, so that ranks are neither perfect nor random."""
    generator = torch.Generator().manual_seed(0)
    video_of_text = torch.arange(texts) % videos
    video_embeds = torch.randn(videos, frames, width, generator=generator)
    noise = torch.randn(texts, width, generator=generator)
    rows = [EvaluationRow(str(index), ("",), None) for index in range(videos)]
    mask = torch.ones(videos, frames, dtype=torch.bool)
    text_embeds = video_embeds[video_of_text].mean(dim=1) + noise
    return EncodedSplit(rows, text_embeds, torch.arange(texts), video_of_text, video_embeds, mask, {})


def in_blocks(model: TS2NetModel, split: EncodedSplit) -> dict[str, float]:
    return retrieval.rank_split(model, split).metrics


def at_once(model: TS2NetModel, split: EncodedSplit) -> dict[str, float]:
    texts = torch.nn.functional.normalize(split.text_embeds, dim=-1)
    videos = torch.nn.functional.normalize(split.video_embeds, dim=-1)
    scores = model.logit_scale.detach().exp() * match(
        texts, videos, split.padding_mask, model.config.matching_temperature
    )
    retrieval_metrics(scores, split.video_of_text, dual_softmax=True)
    return retrieval_metrics(scores, split.video_of_text)


WAYS = {"blocks": in_blocks, "at once": at_once}


def measure(way: str, texts: int, videos: int, frames: int, width: int) -> dict[str, float]:
    """Measure seconds and bytes of one evaluation, and return a metric on which both ways must agree."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64}
    model = TS2NetModel(TS2NetConfig(vision_config=size, text_config=size, projection_dim=width)).eval()
    WAYS[way](model, synthetic_split(8, 8, frames, width))  # warm up
    split = synthetic_split(texts, videos, frames, width)
    before, started = peak_memory(), time.perf_counter()
    with torch.inference_mode():
        metrics = WAYS[way](model, split)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": peak_memory() - before, "recall": metrics["text-to-video R@1"]}


RANKINGS: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {
    "plain": lambda scores: {},
    "dual softmax": lambda scores: {"dual_softmax": True},
    "querybank": lambda scores: {"querybank": Querybank(scores)},
}


def rank(way: str, texts: int, videos: int) -> None:
    with tempfile.TemporaryFile() as file:
        scores = np.memmap(file, dtype=np.float32, mode="w+", shape=(texts, videos))
    retrieval_metrics(scores, np.arange(texts) % videos, **RANKINGS[way](scores))


def measure_ranking(way: str, texts: int, videos: int) -> dict[str, float]:
    """Measure seconds, and bytes in addition to the scores."""
    rank(way, 100, 50)  # warm up
    before, started = peak_memory(), time.perf_counter()
    rank(way, texts, videos)
    return {"seconds": time.perf_counter() - started, "bytes": peak_memory() - before - 4 * texts * videos}


def peak_memory() -> int:
    """Return the peak memory of this process. `getrusage` would include the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def run(*arguments: str) -> dict[str, float]:
    """Measure in a separate process."""
    command = [sys.executable, __file__, *sys.argv[1:], *arguments]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rank-only", action="store_true", help="rank scores that are there already, once")
    parser.add_argument("--only", choices=[*WAYS, *RANKINGS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = (args.texts, args.videos, args.frames, args.width)
    if args.only in RANKINGS:
        print(json.dumps(measure_ranking(args.only, args.texts, args.videos)))
        return
    if args.only:
        print(json.dumps(measure(args.only, *sizes)))
        return
    if args.rank_only:
        print(f"{args.texts} texts by {args.videos} videos: {4 * args.texts * args.videos / 2**20:.0f} MiB of scores")
        for way in RANKINGS:
            result = run("--only", way)
            print(f"{way:12}: {result['seconds']:6.1f} s, {result['bytes'] / 2**20:6.1f} MiB beside the scores")
        return
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(args.repeats):
        for way, results in runs.items():
            results.append(run("--only", way))
    print(f"{args.texts} texts by {args.videos} videos of {args.frames} frames, {args.repeats} processes each")
    medians = {}
    for way, results in runs.items():
        seconds, extra = ([run[name] for run in results] for name in ("seconds", "bytes"))
        medians[way] = statistics.median(seconds), statistics.median(extra)
        print(
            f"{way:8}: {medians[way][0]:6.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), "
            f"{medians[way][1] / 2**20:7.1f} MiB extra ({min(extra) / 2**20:.1f} to {max(extra) / 2**20:.1f}), "
            f"R@1 {results[0]['recall']:.1f}"
        )
    blocks, whole = medians["blocks"], medians["at once"]
    print(f"blocks / at once: time {blocks[0] / whole[0]:.2f}, extra memory {blocks[1] / whole[1]:.2f}")


if __name__ == "__main__":
    main()
