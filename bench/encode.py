"""Clips encoded per second, and the share of the device's measured matrix rate that this is.

    python bench/encode.py --device cuda --dtype bfloat16 --compile

Measures ViT-B/32 and ViT-B/16 at 12 frames with random weights, because speed does not depend on the weights.
PyTorch's `FlopCounterMode` counts the operations of a clip. The device's matrix rate is measured in the same run,
before and after encoding, with products of large square matrices of the same type. The higher of the two rates is
used.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from ts2net import TS2NetConfig, TS2NetModel


def seconds(run: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Measure the wall time of each repeat, with the device synchronised before and after."""
    times = []
    for _ in range(repeats + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times[2:]  # the first two warm up


def matrix_rate(device: str, dtype: torch.dtype, side: int, repeats: int) -> float:
    """Measure floating-point operations per second of the product of two `side` x `side` matrices."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / statistics.median(seconds(lambda: left @ right, device, repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--attention", default="sdpa", choices=("eager", "sdpa", "flash_attention_2"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    side = 8192 if args.device == "cuda" else 1024

    print(f"{args.device}, {args.dtype}, {args.attention}, batch {args.batch_size} of {args.frames} frames")
    for patch_size in (32, 16):
        torch.manual_seed(0)
        config = TS2NetConfig(vision_config={"patch_size": patch_size}, num_frames=args.frames)
        model = TS2NetModel._from_config(config, attn_implementation=args.attention).to(args.device, dtype).eval()
        pixels = torch.randn(args.batch_size, args.frames, 3, 224, 224, device=args.device, dtype=dtype)
        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                model.get_video_features(pixels[:1])
            encode = torch.compile(model.get_video_features) if args.compile else model.get_video_features
            rates = [matrix_rate(args.device, dtype, side, args.repeats)]
            times = seconds(functools.partial(encode, pixels), args.device, args.repeats)
            rates.append(matrix_rate(args.device, dtype, side, args.repeats))
        clips = [args.batch_size / each for each in times]
        work, rate = counter.get_total_flops(), max(rates)
        print(
            f"ViT-B/{patch_size}: {statistics.median(clips):8.1f} clips a second "
            f"({min(clips):.1f} to {max(clips):.1f}), {work / 1e9:.1f} GFLOP a clip, "
            f"{100 * statistics.median(clips) * work / rate:.1f} % of {rate / 1e12:.2f} TFLOP/s"
        )


if __name__ == "__main__":
    main()
