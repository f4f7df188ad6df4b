"""The selection loss: its logits, and the decay of its weight. Its gradients are tested with the main loss."""

import pytest
import torch

from support.contrastive_steps import logits_of_selected
from ts2net.training.selection_loss import faded_weight, selection_logits


def test_logits_are_the_logsumexp_over_tokens_of_real_frames() -> None:
    """The logits ignore vector lengths and padding frames, and are computed in float32 under autocast."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(4, 32, generator=generator)
    tokens = torch.randn(3, 6, 2, 32, generator=generator)
    mask = torch.arange(6) < torch.tensor([[6], [1], [3]])
    logits = selection_logits(texts, tokens, mask)
    torch.testing.assert_close(logits, logits_of_selected(texts, tokens, mask))
    changed = tokens.masked_fill(~mask[..., None, None], 7.0)
    torch.testing.assert_close(selection_logits(3 * texts, 5 * changed, mask), logits)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(selection_logits(texts, tokens, mask), logits)


@pytest.mark.parametrize("steps", [0.2, 100])
def test_the_weight_falls_linearly_to_zero(steps: float) -> None:
    """`selection_loss_steps` is a share of the run or a number of steps."""
    weights = [faded_weight(0.5, steps, step, max_steps=500) for step in (0, 50, 75, 100, 499)]
    assert weights == pytest.approx([0.5, 0.25, 0.125, 0.0, 0.0])
