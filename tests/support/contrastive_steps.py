"""One training step of a tiny model in several ways that must agree, for the tests of the loss and of the cache.

`reference_step` is plain autograd in one process over the whole batch; `step_in_process` is the same step as one of
several processes takes it, in one piece or in chunks.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers.models.clip.modeling_clip import CLIPAttention

from support.tiny_models import random_inputs, tiny_model
from ts2net import TS2NetModel
from ts2net.training import ContrastiveLoss, GradientCache, contrastive_loss_over_processes

BATCH = 8
FIGURES = ("global_loss", "text_to_video_accuracy", "video_to_text_accuracy")
Step = dict[str, Any]  # the figures, and "gradients": name of the parameter -> gradient


@dataclass(frozen=True)
class Case:
    """A model and a batch, and whether its noise comes with the batch or from each process's random state."""

    overrides: dict[str, Any] = field(default_factory=dict)
    same_videos: bool = False
    own_noise: bool = False
    checkpointing: bool = False
    dtype: torch.dtype = torch.float64

    def model(self) -> TS2NetModel:
        model = tiny_model(**self.overrides).to(self.dtype).train()
        if self.own_noise:
            for module in model.modules():
                if isinstance(module, CLIPAttention):
                    module.dropout = 0.2
        if self.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model

    def batch(self) -> dict[str, torch.Tensor]:
        batch = random_inputs(BATCH)
        batch["pixel_values_videos"] = batch["pixel_values_videos"].to(self.dtype)
        for video, frames in enumerate((6, 4, 6, 3, 1, 6, 5, 2)):
            batch["padding_mask_videos"][video, frames:] = False
        if not self.own_noise:
            batch["selection_seeds"] = torch.arange(BATCH) * 7919
        return batch

    def video_keys(self) -> torch.Tensor | None:
        """Videos 0, 3 and 6 are the same, and so are 4 and 5: in other processes and in other chunks, or not."""
        return torch.tensor([11, 22, 33, 11, 44, 44, 11, 55]) if self.same_videos else None


def reference_step(case: Case, num_processes: int = 1, chunk_size: int = BATCH) -> Step:
    """The whole batch, one process, one backward pass; own noise is drawn as the chunks of the processes draw it."""
    model, batch, keys = case.model(), case.batch(), case.video_keys()
    if not case.own_noise and keys is None:
        outputs = model(**batch, return_loss=True)
        logits, loss = outputs.logits_per_text, outputs.loss
    else:
        texts, videos = [], []
        for rank in range(num_processes):
            torch.manual_seed(rank)
            for chunk in chunks_of(part_of(batch, rank, num_processes), chunk_size):
                outputs = model(**chunk)
                texts.append(outputs.text_embeds)
                videos.append(outputs.video_embeds)
        logits = model.similarity(torch.cat(texts), torch.cat(videos), batch["padding_mask_videos"])
        pairs = torch.arange(BATCH)
        keys = pairs if keys is None else keys
        logits = logits.masked_fill((keys[:, None] == keys) & ~torch.eye(BATCH, dtype=torch.bool), -torch.inf)
        loss = (nn.functional.cross_entropy(logits, pairs) + nn.functional.cross_entropy(logits.t(), pairs)) / 2
    loss.backward()
    hits = [(scores.argmax(dim=1) == torch.arange(BATCH)).double().mean() for scores in (logits, logits.t())]
    return {**dict(zip(FIGURES, (loss.detach(), *hits), strict=True)), "gradients": gradients(model)}


def step_in_process(case: Case, chunk_size: int | None = None) -> Step:
    """This process's part of the batch, in one piece or in chunks; gradients as DDP leaves them."""
    rank, num_processes = dist.get_rank(), dist.get_world_size()
    model = case.model()
    wrapped = DistributedDataParallel(model)
    torch.manual_seed(rank)
    inputs = part_of(case.batch(), rank, num_processes)
    keys = case.video_keys()
    result = take_step(
        wrapped, inputs, None if keys is None else part_of({"": keys}, rank, num_processes)[""], chunk_size
    )
    return {**{name: getattr(result, name) for name in FIGURES}, "gradients": gradients(model)}


def take_step(
    model: nn.Module, inputs: dict[str, torch.Tensor], keys: torch.Tensor | None = None, chunk_size: int | None = None
) -> ContrastiveLoss:
    """A step of a model in any wrapping."""
    if chunk_size is not None:
        return GradientCache(model, chunk_size).step(inputs, keys)
    outputs = model(**inputs)
    mask = inputs["padding_mask_videos"]
    result = contrastive_loss_over_processes(
        model, outputs.text_embeds, outputs.video_embeds, outputs.logit_scale, mask, keys
    )
    result.loss.backward()
    return result


def part_of(batch: dict[str, torch.Tensor], rank: int, num_processes: int) -> dict[str, torch.Tensor]:
    return {name: value.chunk(num_processes)[rank] for name, value in batch.items()}


def chunks_of(batch: dict[str, torch.Tensor], chunk_size: int) -> list[dict[str, torch.Tensor]]:
    length = len(next(iter(batch.values())))
    return [
        {name: value[start : start + chunk_size] for name, value in batch.items()}
        for start in range(0, length, chunk_size)
    ]


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_step(found: Step, expected: Step, tolerance: float) -> None:
    """Figures agree, and each parameter's gradient to `tolerance` of its norm."""
    for name in FIGURES:
        torch.testing.assert_close(found[name].double(), expected[name].double(), rtol=tolerance, atol=0)
    assert_same_gradients(found["gradients"], expected["gradients"], tolerance)


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    whole = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    for name, gradient in expected.items():
        # Attention does not feel a bias of all its keys: that gradient is 0, and what is left of it is rounding.
        scale = whole if name.endswith("k_proj.bias") else gradient.norm()
        assert scale > 0, name
        assert (found[name] - gradient).norm() <= tolerance * scale, name
