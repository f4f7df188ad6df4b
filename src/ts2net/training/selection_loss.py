"""Additional loss on the selected tokens that fades out. It starts the learning of a token selection.

The scorer learns only from the selected tokens that the temporal encoder uses, and the encoder learns to use only
tokens that are selected. If neither starts to learn, this loss trains the scorer without the encoder. It is not in the
paper.
"""

import torch
from torch import nn

SCALE = 12.0
"""Factor of the cosines of texts and selected tokens."""


def selection_logits(
    text_embeds: torch.Tensor, selected_tokens: torch.Tensor, frame_mask: torch.Tensor
) -> torch.Tensor:
    """Compute the match of each text with the selected tokens of each video: the logsumexp of their scaled cosines.

    The value is close to the scaled cosine of the best token, so one token that shows a named object is enough.

    Args:
        text_embeds: Text embeddings of shape `(Q, D)`, normalised or not.
        selected_tokens: The `K` selected tokens of each frame, without [CLS], of shape `(B, T, K, D)`, normalised or
            not.
        frame_mask: True for real frames, of shape `(B, T)`. Tokens of padding frames are ignored.

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
    """Return the weight of the loss at a step, which falls linearly from `weight` to 0 over `steps` steps.

    Args:
        weight: Weight at the first step.
        steps: Number of steps; below 1, a share of `max_steps`.
        step: The step, from 0.
        max_steps: Number of steps of the run.
    """
    end = steps if steps >= 1 else steps * max_steps
    return weight * max(0.0, 1.0 - step / end)
