"""A loss on the selected tokens themselves, which fades: it starts a token selection that the main loss can't start.

The scorer learns from what the temporal encoder reads out of the selected tokens, and the encoder learns to read only
tokens that are selected. Where neither begins, this loss goes round the encoder. It is not in the paper.
"""

import torch
from torch import nn

SCALE = 12.0
"""What cosines of texts and selected tokens are multiplied by."""


def selection_logits(
    text_embeds: torch.Tensor, selected_tokens: torch.Tensor, frame_mask: torch.Tensor
) -> torch.Tensor:
    """How well the selected tokens of each video fit each text: the logsumexp of their scaled cosines.

    It is close to the best token's, so a text that names a thing asks for one token that shows it.

    Args:
        text_embeds: Text embeddings of shape `(Q, D)`, normalised or not.
        selected_tokens: The `K` selected tokens of each frame, without [CLS], of shape `(B, T, K, D)`, normalised or
            not.
        frame_mask: True for real frames, of shape `(B, T)`. Tokens of other frames don't count.

    Returns:
        Logits of shape `(Q, B)`, in at least float32.
    """
    dtype = torch.promote_types(text_embeds.dtype, torch.float32)
    with torch.autocast(text_embeds.device.type, enabled=False):
        texts = nn.functional.normalize(text_embeds.to(dtype), dim=-1)
        tokens = nn.functional.normalize(selected_tokens.to(dtype).flatten(1, 2), dim=-1)  # (B, T * K, D)
        cosines = torch.einsum("qd,bkd->qbk", texts, tokens)  # (Q, B, T * K)
    token_mask = frame_mask.repeat_interleave(selected_tokens.shape[2], dim=1)  # (B, T * K)
    return (SCALE * cosines).masked_fill(~token_mask, -torch.inf).logsumexp(dim=-1)


def faded_weight(weight: float, steps: float, step: int, max_steps: int) -> float:
    """Weight of the loss at a step: `weight` at the first one, then linearly less, and 0 after `steps` of them.

    Args:
        weight: At the first step.
        steps: A number of steps; below 1, a share of `max_steps`.
        step: From 0.
        max_steps: Of the run.
    """
    end = steps if steps >= 1 else steps * max_steps
    return weight * max(0.0, 1.0 - step / end)
