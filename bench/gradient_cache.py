"""Time and peak memory of a training step with the gradient cache, by chunk size, compared with the step in one piece.

    python bench/gradient_cache.py

Each chunk size runs in separate processes, so that its peak memory is its own. The sizes alternate, so that a
disturbance affects all of them. On a CPU, time is the processor time, which a busy machine disturbs less. The extra
peak is the peak resident memory during a step (from `/proc`, so on Linux) minus the resident memory between two steps
(weights, gradients and the batch). On a GPU (`--device cuda`), time is the wall time and the peak is the allocator's.
The model has the shapes of ViT-B/32, with `--layers` instead of 12 layers in each tower.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import CLIPConfig

from ts2net import TS2NetConfig, TS2NetModel
from ts2net.training import GradientCache, contrastive_loss_over_processes


def make_model(layers: int, frames: int) -> TS2NetModel:
    """Create a TS2-Net with the shapes of CLIP's ViT-B/32, but fewer layers in both towers."""
    clip = CLIPConfig(text_config={"num_hidden_layers": layers}, vision_config={"num_hidden_layers": layers})
    torch.manual_seed(0)
    return TS2NetModel(TS2NetConfig.from_clip_config(clip, num_frames=frames, temporal_num_layers=min(4, layers)))


def make_batch(clips: int, frames: int) -> dict[str, torch.Tensor]:
    """Create a batch of noise, with an end-of-text token at the end of each text."""
    return {
        "input_ids": torch.randint(1000, 49000, (clips, 32)).index_fill_(1, torch.tensor([31]), 49407),
        "pixel_values_videos": torch.randn(clips, frames, 3, 224, 224),
        "selection_seeds": torch.arange(clips),
    }


def step(model: TS2NetModel, batch: dict[str, torch.Tensor], chunk: int | None, dtype: torch.dtype) -> None:
    """Compute the gradients of a batch, in chunks or in one piece."""
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        if chunk is not None:
            GradientCache(model, chunk).step(batch)
            return
        outputs = model(**batch)
        texts, videos, scale = outputs.text_embeds, outputs.video_embeds, outputs.logit_scale
        del outputs  # as in the trainer, so that unused tensors are not part of the peak
        contrastive_loss_over_processes(model, texts, videos, scale).loss.backward()


def measure(args: argparse.Namespace, chunk: int | None) -> dict[str, float]:
    """Measure the seconds of a step, and the bytes that it needs in addition to permanent ones."""
    dtype = getattr(torch, args.dtype)
    model = make_model(args.layers, args.frames).to(args.device).train()
    batch = {name: value.to(args.device) for name, value in make_batch(args.clips, args.frames).items()}
    # A first step allocates the gradients, and warms up.
    step(model, {name: value[:1] for name, value in batch.items()}, None, dtype)
    if args.device == "cuda":
        step(model, batch, chunk, dtype)  # kernels are chosen by shape
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, started = torch.cuda.memory_allocated(), time.perf_counter()
        step(model, batch, chunk, dtype)
        torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started, "bytes": torch.cuda.max_memory_allocated() - before}
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, started = resident("VmRSS"), time.process_time()
    step(model, batch, chunk, dtype)
    return {"seconds": time.process_time() - started, "bytes": resident("VmHWM") - before}


def resident(name: str) -> int:
    """Return the resident bytes of this process: current (`VmRSS`) or peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # size of the chunk; 0: in one piece
    args = parser.parse_args()
    if args.only is not None:
        print(json.dumps(measure(args, args.only or None)))
        return

    runs: dict[int, list[dict[str, float]]] = {chunk: [] for chunk in (0, *args.chunks)}
    for _ in range(args.rounds):
        for chunk in runs:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", str(chunk)]
            runs[chunk].append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    print(
        f"{args.clips} clips of {args.frames} frames, ViT-B/32 with {args.layers} + {args.layers} layers, "
        f"{args.dtype}, {args.device}, {args.rounds} rounds; ratios to one piece, of single rounds in brackets"
    )
    for chunk, rounds in runs.items():
        line = f"{f'chunks of {chunk}' if chunk else 'in one piece':13}"
        for unit, scale, sign in (("seconds", 1.0, "s"), ("bytes", 2**20, "MiB")):
            median = statistics.median(one[unit] for one in rounds)
            ratios = [one[unit] / whole[unit] for one, whole in zip(rounds, runs[0], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            line += f"  {median / scale:8.2f} {sign}, {statistics.median(ratios):5.2f} ({spread})"
        print(line)


if __name__ == "__main__":
    main()
