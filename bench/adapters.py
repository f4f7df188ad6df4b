"""Time, peak memory and file size of training with adapters, compared with training all weights.

    python bench/adapters.py

A step consists of the forward and backward pass of a batch and AdamW's update. Each kind of training runs in separate
processes, so that its peak memory is its own. The kinds alternate, so that a disturbance affects all of them.

On a CPU, time is the processor time. The peak is the process's peak resident memory (from `/proc`, so on Linux) minus
the resident memory before the model is created, so it includes weights, gradients, AdamW's state and activations. On a
GPU (`--device cuda`), time is the wall time and the peak is the allocator's. The model has the shapes of ViT-B/32,
with `--layers` instead of 12 layers in each tower.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from gradient_cache import make_batch, make_model, resident
from ts2net.hub.adapters import add_adapters, lora_config, trained_share
from ts2net.modeling_ts2net import TS2NetModel
from ts2net.training import contrastive_loss_over_processes
from ts2net.training.contrastive import loss_inputs

KINDS = ("all weights", "adapters", "adapters alone")


def prepare(model: TS2NetModel, kind: str, rank: int) -> None:
    """Choose what is trained: everything, adapters with the layers that CLIP does not have, or adapters alone."""
    if kind == KINDS[0]:
        return
    config = lora_config(rank)
    if kind == KINDS[2]:
        config.modules_to_save = None
    add_adapters(model, config, "base")


def measure(args: argparse.Namespace, kind: str) -> dict[str, float]:
    """Measure seconds and peak bytes of a step, trained and all parameters, and the bytes of the saved weights."""
    on_gpu = args.device == "cuda"
    before = 0 if on_gpu else resident("VmRSS")
    model = make_model(args.layers, args.frames).to(args.device).train()
    prepare(model, kind, args.rank)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-5)
    batch = {name: value.to(args.device) for name, value in make_batch(args.clips, args.frames).items()}

    def step() -> None:
        outputs = model(**batch)
        contrastive_loss_over_processes(model, **loss_inputs(outputs), selection_weight=0.0).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # warms up, and creates AdamW's state
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds, peak = time.perf_counter() - started, torch.cuda.max_memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        started = time.process_time()
        step()
        seconds, peak = time.process_time() - started, resident("VmHWM") - before
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    trained, total = trained_share(model)
    return {"seconds": seconds, "bytes": peak, "trained": trained, "total": total, "saved": saved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only is not None:
        print(json.dumps(measure(args, args.only)))
        return
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(args.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", kind]
            runs[kind].append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    print(
        f"{args.clips} clips of {args.frames} frames, ViT-B/32 with {args.layers} + {args.layers} layers, rank "
        f"{args.rank}, {args.device}, {args.rounds} rounds; ratios to all weights, of single rounds in brackets"
    )
    for kind, rounds in runs.items():
        one = rounds[0]
        line = (
            f"{kind:15} {one['trained']:>11,.0f} of {one['total']:,.0f} trained ({one['trained'] / one['total']:.2%})"
        )
        for unit, scale, sign in (("seconds", 1.0, "s"), ("bytes", 2**20, "MiB")):
            median = statistics.median(figures[unit] for figures in rounds)
            ratios = [figures[unit] / whole[unit] for figures, whole in zip(rounds, runs[KINDS[0]], strict=True)]
            line += f"  {median / scale:.2f} {sign}, {statistics.median(ratios):.2f}"
            line += f" ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{line}  {one['saved'] / 2**20:.1f} MiB saved")


if __name__ == "__main__":
    main()
