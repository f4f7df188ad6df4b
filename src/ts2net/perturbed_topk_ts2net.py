"""The perturbed top-k: a differentiable choice of k candidates (Berthet et al. 2020, Cordonnier et al. 2021).

It only needs torch. No tensor of size `draws x k x N` is ever stored: forward keeps the indices of the winners, and
backward draws the noise again from the same seeds.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

# Noise elements per run of rows: 4 MiB of float32, which stay in a processor's cache.
_RUN_ELEMENTS = 2**20
# Each worker keeps one run in memory, and torch gives each its own team of threads: more workers only cost memory.
_MAX_WORKERS = 4


# Seeds, generators and threads cannot be traced: torch.compile would break this function into a dozen small graphs.
@torch.compiler.disable
def perturbed_topk(
    scores: torch.Tensor,
    k: int,
    sigma: float = 0.05,
    num_samples: int = 500,
    *,
    noise: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    seeds: torch.Tensor | None = None,
    gradient: str = "exact",
) -> torch.Tensor:
    """Average the one-hot top-k over `num_samples` draws of `scores + sigma * noise`.

    The `k` winners of a draw are sorted by position. Slot `j` of the result is the distribution of the `j`-th winner
    over the `N` candidates. The gradient of the expectation is `E[(sum_j g_j[index_j]) * noise] / sigma`.

    Args:
        scores: Scores of shape `(rows, N)`, of any floating dtype. Computed in float32, or float64 for float64 scores.
        k: Number of winners, 1 to `N`.
        sigma: Standard deviation of the noise.
        num_samples: Number of draws.
        noise: Standard normal noise of shape `(rows, num_samples, N)`. `None`: drawn from seeds.
        generator: CPU generator that the seeds are drawn from. `None`: torch's default generator.
        seeds: Integers of shape `(runs,)`. The rows are split into that many equal runs, and the noise of a run
            depends only on its seed. With one seed per video, its noise is the same in any batch, chunk or process.
        gradient: `"exact"`, or `"diagonal"` for the diagonal of the Jacobian only, as in the released code.

    Returns:
        Indicators of shape `(rows, k, N)`. Each slot sums to 1.

    Raises:
        ValueError: If an argument is out of range or has the wrong shape.
    """
    if scores.ndim != 2 or not scores.numel() or not scores.is_floating_point():
        raise ValueError(f"scores must be a floating tensor of shape (rows, N), got {scores.dtype} {(*scores.shape,)}")
    rows, num_candidates = scores.shape
    if not all(isinstance(number, int) for number in (k, num_samples)):
        raise ValueError(f"k and num_samples must be whole numbers, got {k!r} and {num_samples!r}")
    if sum(source is not None for source in (noise, generator, seeds)) > 1:
        raise ValueError("noise, generator and seeds are three sources of the same noise: give one of them")
    if not 1 <= k <= num_candidates:
        raise ValueError(f"k must lie between 1 and the {num_candidates} candidates, got {k}")
    if not 0 < sigma < math.inf or num_samples < 1:
        raise ValueError(f"sigma must be positive and num_samples at least 1, got {sigma} and {num_samples}")
    if gradient not in ("exact", "diagonal"):
        raise ValueError(f"gradient must be 'exact' or 'diagonal', got {gradient!r}")
    if noise is not None and noise.shape != (rows, num_samples, num_candidates):
        expected = (rows, num_samples, num_candidates)
        raise ValueError(f"noise must have shape (rows, num_samples, N) = {expected}, got {(*noise.shape,)}")
    if noise is None and seeds is None:
        # Runs short enough that their noise stays in the cache, and long enough to be worth a call.
        runs = max(1, min(rows, rows * num_samples * num_candidates // _RUN_ELEMENTS))
        while rows % runs:
            runs -= 1
        seeds = torch.randint(2**62, (runs,), generator=generator)
    if seeds is not None and (seeds.ndim != 1 or not len(seeds) or rows % len(seeds) or seeds.is_floating_point()):
        raise ValueError(
            f"seeds must be a vector of whole numbers whose length divides the {rows} rows, "
            f"got {seeds.dtype} of shape {(*seeds.shape,)}"
        )
    dtype = torch.promote_types(scores.dtype, torch.float32)
    source = noise.to(dtype) if noise is not None else seeds.tolist()  # type: ignore[union-attr]
    return _PerturbedTopK.apply(scores.to(dtype), source, k, sigma, num_samples, gradient)


class _PerturbedTopK(torch.autograd.Function):
    """Mean one-hot top-k (forward) and the gradient of its expectation (backward), one run of rows at a time."""

    @staticmethod
    def forward(ctx, scores, source, k, sigma, num_samples, gradient):
        rows, num_candidates = scores.shape
        index_dtype = torch.uint8 if num_candidates <= 256 else torch.int16 if num_candidates <= 2**15 else torch.int32
        winners = torch.empty(rows, num_samples, k, dtype=index_dtype, device=scores.device)
        counts = torch.zeros(rows, k, num_candidates, dtype=scores.dtype, device=scores.device)

        def count(run: slice, noise: torch.Tensor) -> None:
            perturbed = torch.add(scores[run, None], noise, alpha=sigma)  # (run, n, N)
            indices = perturbed.topk(k, dim=-1, sorted=False).indices.sort(dim=-1).values  # (run, n, k)
            winners[run] = indices.to(index_dtype)
            one_each = counts.new_ones(()).expand(len(indices), k, num_samples)
            counts[run].scatter_add_(-1, indices.transpose(1, 2), one_each)

        _for_each_run(count, source, scores, num_samples)
        ctx.save_for_backward(scores, winners, *([source] if isinstance(source, torch.Tensor) else []))
        ctx.seeds = source if isinstance(source, list) else None
        ctx.sigma, ctx.gradient = sigma, gradient
        return counts.div_(num_samples)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_indicators):
        scores, winners, *noise = ctx.saved_tensors
        num_samples = winners.shape[1]
        grad_scores = torch.zeros_like(scores)

        def add_gradient(run: slice, noise: torch.Tensor) -> None:
            indices = winners[run].long()  # (run, n, k)
            weights = grad_indicators[run].gather(-1, indices.transpose(1, 2))  # (run, k, n): g_j[index_j]
            if ctx.gradient == "exact":
                grad_scores[run] = (weights.sum(1, keepdim=True) @ noise).squeeze(1)
            else:
                at_winners = noise.gather(-1, indices).transpose(1, 2)  # (run, k, n)
                flat = (weights * at_winners).flatten(1)
                grad_scores[run].scatter_add_(-1, indices.transpose(1, 2).flatten(1), flat)

        _for_each_run(add_gradient, ctx.seeds or noise[0], scores, num_samples)
        return grad_scores.div_(num_samples * ctx.sigma), None, None, None, None, None


def _for_each_run(
    work: Callable[[slice, torch.Tensor], None], source: torch.Tensor | list[int], scores: torch.Tensor, draws: int
) -> None:
    """Call `work(rows, noise)` for each run of rows, with noise drawn from the run's seed or sliced from a tensor.

    A CPU generator draws with one thread, so runs are processed in parallel. Each run writes only its own rows.
    """
    rows, num_candidates = scores.shape
    block = max(1, _RUN_ELEMENTS // (draws * num_candidates))
    step = rows // len(source) if isinstance(source, list) else block
    inference = torch.is_inference_mode_enabled()

    def do(start: int) -> None:
        if isinstance(source, list):
            generator = torch.Generator(scores.device).manual_seed(source[start // step])
        end = min(start + step, rows)
        # Both modes are per thread. A long run is processed in blocks, with draws in sequence from one generator.
        with torch.inference_mode(inference), torch.no_grad():
            for first in range(start, end, block):
                part = slice(first, min(first + block, end))
                if isinstance(source, list):
                    noise = scores.new_empty(part.stop - first, draws, num_candidates).normal_(generator=generator)
                else:
                    noise = source[part]
                work(part, noise)

    workers = min(torch.get_num_threads(), _MAX_WORKERS) if scores.device.type == "cpu" else 1
    if workers == 1:
        for start in range(0, rows, step):
            do(start)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(do, range(0, rows, step)))


__all__ = ["perturbed_topk"]
