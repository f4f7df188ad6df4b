"""The perturbed top-k: mean, both gradients, and memory."""

import pytest
import torch

from ts2net.perturbed_topk_ts2net import perturbed_topk


def plain(scores, noise, k, sigma):
    """Compute the formula literally: the mean of sorted one-hot winners, `(rows, k, N)`."""
    winners = (scores[:, None] + sigma * noise).topk(k, dim=-1).indices.sort(dim=-1).values
    return torch.nn.functional.one_hot(winners, scores.shape[1]).double().mean(dim=1)


@pytest.fixture
def case():
    """Scores, noise and an upstream gradient for 5 rows of 12 candidates."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 12, generator=generator, dtype=torch.float64) * 0.1
    noise = torch.randn(5, 40, 12, generator=generator, dtype=torch.float64)
    grad = torch.randn(5, 3, 12, generator=generator, dtype=torch.float64)
    return scores, noise, grad


def test_mean_is_that_of_one_hot_winners(case):
    scores, noise, _ = case
    torch.testing.assert_close(perturbed_topk(scores, 3, 0.2, 40, noise=noise), plain(scores, noise, 3, 0.2))


def test_exact_gradient_is_the_score_function_estimate(case):
    scores, noise, grad = case
    scores.requires_grad_()
    perturbed_topk(scores, 3, 0.2, 40, noise=noise).backward(grad)
    winners = (scores[:, None] + 0.2 * noise).topk(3, dim=-1).indices.sort(dim=-1).values
    expected = torch.zeros_like(scores)
    for row in range(5):
        for draw in range(40):
            gain = sum(grad[row, slot, winners[row, draw, slot]] for slot in range(3))
            expected[row] += gain * noise[row, draw] / (40 * 0.2)
    torch.testing.assert_close(scores.grad, expected.detach())


def test_diagonal_gradient_is_the_diagonal_of_that(case):
    scores, noise, grad = case
    scores.requires_grad_()
    perturbed_topk(scores, 3, 0.2, 40, noise=noise, gradient="diagonal").backward(grad)
    winners = (scores[:, None] + 0.2 * noise).topk(3, dim=-1).indices.sort(dim=-1).values
    one_hot = torch.nn.functional.one_hot(winners, 12).double()  # (rows, draws, k, N)
    jacobian_diagonal = torch.einsum("rdkn,rdn->rkn", one_hot, noise) / (40 * 0.2)
    torch.testing.assert_close(scores.grad, (jacobian_diagonal * grad).sum(1))


@pytest.mark.slow
def test_exact_gradient_agrees_with_finite_differences_of_the_smoothed_function():
    """Both ends of the difference use the same draws. The tolerance is five standard errors."""
    generator = torch.Generator().manual_seed(1)
    draws, sigma, step = 400_000, 0.3, 0.06
    scores = torch.tensor([[0.1, -0.2, 0.3, 0.0, 0.05]], dtype=torch.float64, requires_grad=True)
    grad = torch.randn(1, 2, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, draws, 5, generator=generator, dtype=torch.float64)
    perturbed_topk(scores, 2, sigma, draws, noise=noise).backward(grad)
    for index in range(5):
        shift = torch.zeros_like(scores)
        shift[0, index] = step
        ends = [(plain(scores.detach() + side, noise, 2, sigma) * grad).sum() for side in (shift, -shift)]
        difference = (ends[0] - ends[1]) / (2 * step)
        standard_error = grad.abs().sum() / (sigma * draws**0.5)
        assert abs(difference - scores.grad[0, index]) < 5 * standard_error


@pytest.mark.parametrize("gradient", ["exact", "diagonal"])
def test_noise_drawn_from_seeds_is_drawn_alike_in_the_backward_pass(gradient):
    scores = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    seeds = torch.tensor([3, 4, 5])
    noise = torch.cat([torch.randn(2, 30, 10, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4, 5)])
    results = []
    for source in ({"seeds": seeds}, {"noise": noise}):
        leaf = scores.clone().requires_grad_()
        indicators = perturbed_topk(leaf, 2, 0.5, 30, gradient=gradient, **source)
        indicators.square().sum().backward()
        results.append((indicators.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])


def test_rows_with_the_same_seed_see_the_same_noise_in_any_batch():
    scores = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    together = perturbed_topk(scores, 2, 0.5, 30, seeds=torch.tensor([7, 8, 9]))
    alone = perturbed_topk(scores[2:4], 2, 0.5, 30, seeds=torch.tensor([8]))
    assert torch.equal(together[2:4], alone)


def test_generator_decides():
    scores = torch.zeros(4, 10)
    draws = [perturbed_topk(scores, 2, 1.0, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_keeps_nothing_of_the_size_of_the_noise():
    """The backward pass keeps the scores and one byte per winner, but neither noise nor one-hot matrices."""
    scores = torch.randn(8, 49, requires_grad=True)
    saved = perturbed_topk(scores, 3, 0.05, 100).grad_fn.saved_tensors
    assert sum(tensor.nbytes for tensor in saved) == 8 * 49 * 4 + 8 * 100 * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_worked_on_in_float32(dtype):
    scores = torch.randn(3, 300).to(dtype).requires_grad_()
    indicators = perturbed_topk(scores, 4, 0.5, 16)
    indicators.square().sum().backward()
    assert indicators.dtype == torch.float32
    assert scores.grad.dtype == dtype
    torch.testing.assert_close(indicators.sum(-1), torch.ones(3, 4))


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_works_in_inference_mode_and_alike_with_any_number_of_threads(threads):
    scores, seeds = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2, 3])
    expected = perturbed_topk(scores, 2, 0.5, 30, seeds=seeds)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            assert torch.equal(perturbed_topk(scores, 2, 0.5, 30, seeds=seeds), expected)
    finally:
        torch.set_num_threads(before)


def test_long_runs_are_worked_on_in_blocks(monkeypatch):
    """Forward and backward use the same blocks, so that the gradient uses the drawn noise."""
    from ts2net import perturbed_topk_ts2net

    monkeypatch.setattr(perturbed_topk_ts2net, "_RUN_ELEMENTS", 700)  # two rows of 30 x 10 at a time
    scores = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(5)
    noise = torch.cat([torch.randn(2, 30, 10, generator=generator) for _ in range(3)])
    results = []
    for source in ({"seeds": torch.tensor([5])}, {"noise": noise}):
        leaf = scores.clone().requires_grad_()
        perturbed_topk(leaf, 2, 0.5, 30, **source).square().sum().backward()
        results.append(leaf.grad)
    torch.testing.assert_close(results[0], results[1])


def test_noise_changed_before_the_backward_pass_is_noticed():
    scores, noise = torch.randn(2, 6, requires_grad=True), torch.randn(2, 8, 6)
    indicators = perturbed_topk(scores, 2, 0.5, 8, noise=noise)
    noise.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        indicators.sum().backward()


def test_all_candidates_can_win():
    assert torch.equal(perturbed_topk(torch.randn(2, 3), 3, 0.1, 5)[0], torch.eye(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": torch.zeros(3)}, "shape"),
        ({"scores": torch.zeros(0, 6)}, "shape"),
        ({"scores": torch.zeros(2, 3, dtype=torch.long)}, "int64"),
        ({"k": 0}, "got 0"),
        ({"k": 7}, "6 candidates, got 7"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"k": 2.5}, "whole numbers"),
        ({"seeds": torch.zeros(2)}, "whole numbers"),
        ({"seeds": torch.zeros(2, dtype=torch.long), "generator": torch.Generator()}, "give one of them"),
        ({"num_samples": 0}, "num_samples"),
        ({"gradient": "both"}, "'both'"),
        ({"noise": torch.zeros(4, 9, 6)}, r"\(4, 8, 6\), got \(4, 9, 6\)"),
        ({"seeds": torch.zeros(3, dtype=torch.long)}, "divides the 4 rows"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    settings = {"scores": torch.zeros(4, 6), "k": 2, "sigma": 0.1, "num_samples": 8} | arguments
    with pytest.raises(ValueError, match=message):
        perturbed_topk(**settings)
