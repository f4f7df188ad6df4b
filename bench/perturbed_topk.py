"""Time and peak memory of the perturbed top-k, compared with the plain one-hot formulation.

    python bench/perturbed_topk.py

Each formulation runs one forward and backward pass in separate processes, so that its peak memory is its own. The
formulations alternate, so that a disturbance affects both. The extra peak is the process's peak resident memory minus
the peak before the pass. On a GPU (`--device cuda`), the peak is the allocator's.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from ts2net.perturbed_topk_ts2net import perturbed_topk


class PlainPerturbedTopK(torch.autograd.Function):
    """Literal implementation of the formula: a one-hot matrix per draw, and all noise kept for the backward pass."""

    @staticmethod
    def forward(ctx, scores, k, sigma, num_samples):
        noise = torch.randn(len(scores), num_samples, scores.shape[1], device=scores.device)
        winners = (scores[:, None] + sigma * noise).topk(k, dim=-1, sorted=False).indices.sort(dim=-1).values
        one_hot = torch.nn.functional.one_hot(winners, scores.shape[1]).float()  # (rows, n, k, N)
        ctx.save_for_backward(one_hot, noise)
        ctx.sigma = sigma
        return one_hot.mean(dim=1)

    @staticmethod
    def backward(ctx, grad_indicators):
        one_hot, noise = ctx.saved_tensors
        weights = torch.einsum("rkc,rnkc->rn", grad_indicators, one_hot)
        return torch.einsum("rn,rnc->rc", weights, noise) / (noise.shape[1] * ctx.sigma), None, None, None


FORMULATIONS = {"ts2net": perturbed_topk, "plain": PlainPerturbedTopK.apply}


def measure(name: str, rows: int, candidates: int, k: int, draws: int, device: str) -> dict[str, float]:
    """Measure seconds and bytes of one forward and backward pass."""
    torch.manual_seed(0)
    scores = torch.rand(rows, candidates, device=device, requires_grad=True)
    grad = torch.rand(rows, k, candidates, device=device)
    FORMULATIONS[name](scores[:2].detach().requires_grad_(), k, 0.05, 8).sum().backward()  # warm up
    cuda = device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    FORMULATIONS[name](scores, k, 0.05, draws).backward(grad)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "bytes": peak - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--candidates", type=int, default=196)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=FORMULATIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = (args.rows, args.candidates, args.k, args.draws)
    if args.only:
        print(json.dumps(measure(args.only, *sizes, args.device)))
        return

    runs: dict[str, list[dict[str, float]]] = {name: [] for name in FORMULATIONS}
    for _ in range(args.rounds):
        for name in FORMULATIONS:
            child = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--only", name], capture_output=True, text=True, check=True
            )
            runs[name].append(json.loads(child.stdout))
    print(f"rows {sizes[0]}, N {sizes[1]}, k {sizes[2]}, draws {sizes[3]}, {args.device}, {args.rounds} rounds")
    for unit, scale, sign in (("seconds", 1.0, "s"), ("bytes", 2**20, "MiB")):
        plain, ts2net = ([run[unit] / scale for run in runs[name]] for name in ("plain", "ts2net"))
        ratios = [one / other for one, other in zip(plain, ts2net, strict=True)]
        print(
            f"{unit:8} plain {statistics.median(plain):8.2f} {sign}, ts2net {statistics.median(ts2net):8.2f} {sign}, "
            f"ratio {statistics.median(plain) / statistics.median(ts2net):6.1f} "
            f"(of single rounds: {min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
