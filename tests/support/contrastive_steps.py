"""One training step of a tiny model in several ways that must agree, for the tests of the loss and of the cache.

`reference_step` is plain autograd in one process over the whole batch. `step_in_process` is the part of the same step
in one of several processes, in one piece or in chunks.
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
from ts2net.hub.adapters import add_adapters, lora_config
from ts2net.training import ContrastiveLoss, GradientCache, contrastive_loss_over_processes
from ts2net.training.contrastive import loss_inputs

BATCH = 8
FIGURES = ("global_loss", "text_to_video_accuracy", "video_to_text_accuracy", "selection_loss")
Step = dict[str, Any]  # the figures, and "gradients": name of the parameter -> gradient


@dataclass(frozen=True)
class Case:
    """A model and a batch, and whether its noise comes with the batch or from each process's random state."""

    overrides: dict[str, Any] = field(default_factory=dict)
    same_videos: bool = False
    own_noise: bool = False
    checkpointing: bool = False
    selection_weight: float = 0.0
    dtype: torch.dtype = torch.float64
    adapters: bool = False

    def model(self) -> TS2NetModel:
        model = tiny_model(**self.overrides)
        if self.adapters:
            add_adapters(model, lora_config(2, ["q_proj", "fc1"]), "base")
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:  # B starts at 0, so A would have no gradient
                    nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
        model = model.to(self.dtype).train()
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
        """Return equal keys for videos 0, 3 and 6, and for 4 and 5, within and across processes and chunks."""
        return torch.tensor([11, 22, 33, 11, 44, 44, 11, 55]) if self.same_videos else None


def reference_step(case: Case, num_processes: int = 1, chunk_size: int = BATCH) -> Step:
    """Run the whole batch in one process with one backward pass. Own noise is drawn as in the processes' chunks."""
    model, batch, keys = case.model(), case.batch(), case.video_keys()
    selection_loss = torch.tensor(0.0)
    if not case.own_noise and keys is None and not case.selection_weight:
        outputs = model(**batch, return_loss=True)
        logits, loss = outputs.logits_per_text, outputs.loss
    else:
        texts, words, videos, selected = [], [], [], []
        for rank in range(num_processes):
            torch.manual_seed(rank)
            for chunk in chunks_of(part_of(batch, rank, num_processes), chunk_size):
                outputs = model(**chunk)
                texts.append(outputs.text_embeds)
                words.append(outputs.word_embeds)
                videos.append(outputs.video_embeds)
                selected.append(outputs.video_model_output.selected_tokens[:, :, 1:])
        matched = torch.cat(texts if words[0] is None else words)
        logits = model.similarity(matched, torch.cat(videos), batch["padding_mask_videos"])
        pairs = torch.arange(BATCH)
        keys = pairs if keys is None else keys
        same = (keys[:, None] == keys) & ~torch.eye(BATCH, dtype=torch.bool)
        logits = logits.masked_fill(same, -torch.inf)
        loss = symmetric_cross_entropy(logits)
        if case.selection_weight:
            of_tokens = logits_of_selected(torch.cat(texts), torch.cat(selected), batch["padding_mask_videos"])
            selection_loss = symmetric_cross_entropy(of_tokens.masked_fill(same, -torch.inf))
            loss = loss + case.selection_weight * selection_loss
    loss.backward()
    hits = [(scores.argmax(dim=1) == torch.arange(BATCH)).double().mean() for scores in (logits, logits.t())]
    figures = (loss.detach(), *hits, selection_loss.detach())
    return {**dict(zip(FIGURES, figures, strict=True)), "gradients": gradients(model)}


def symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    pairs = torch.arange(len(logits))
    return (nn.functional.cross_entropy(logits, pairs) + nn.functional.cross_entropy(logits.t(), pairs)) / 2


def logits_of_selected(texts: torch.Tensor, selected: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Compute the logits of the selection loss, one text and one video at a time."""
    return torch.stack(
        [
            torch.stack(
                [
                    (12 * nn.functional.cosine_similarity(text, tokens[mask], dim=-1)).flatten().logsumexp(0)
                    for tokens, mask in zip(selected, frame_mask, strict=True)
                ]
            )
            for text in texts
        ]
    )


def step_in_process(case: Case, chunk_size: int | None = None) -> Step:
    """Run this process's part of the batch, in one piece or in chunks. Gradients are averaged by DDP."""
    rank, num_processes = dist.get_rank(), dist.get_world_size()
    model = case.model()
    wrapped = DistributedDataParallel(model)
    torch.manual_seed(rank)
    inputs = part_of(case.batch(), rank, num_processes)
    keys = case.video_keys()
    result = take_step(
        wrapped,
        inputs,
        None if keys is None else part_of({"": keys}, rank, num_processes)[""],
        chunk_size,
        case.selection_weight,
    )
    figures = {name: getattr(result, name) for name in FIGURES}
    if not case.selection_weight:
        assert figures["selection_loss"] is None
        figures["selection_loss"] = torch.tensor(0.0)
    return {**figures, "gradients": gradients(model)}


def take_step(
    model: nn.Module,
    inputs: dict[str, torch.Tensor],
    keys: torch.Tensor | None = None,
    chunk_size: int | None = None,
    selection_weight: float = 0.0,
) -> ContrastiveLoss:
    """Run a step of a model with any wrapper."""
    if chunk_size is not None:
        return GradientCache(model, chunk_size).step(inputs, keys, selection_weight)
    result = contrastive_loss_over_processes(
        model,
        **loss_inputs(model(**inputs), selection_weight),
        padding_mask_videos=inputs["padding_mask_videos"],
        video_keys=keys,
        selection_weight=selection_weight,
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


def assert_same_step(actual: Step, expected: Step, tolerance: float) -> None:
    """Check that figures agree, and that each parameter's gradient agrees within `tolerance` of its norm."""
    for name in FIGURES:
        torch.testing.assert_close(actual[name].double(), expected[name].double(), rtol=tolerance, atol=0)
    assert_same_gradients(actual["gradients"], expected["gradients"], tolerance)


def assert_same_gradients(
    actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert actual.keys() == expected.keys()
    whole = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    for name, gradient in expected.items():
        # A bias of all keys does not change attention: its gradient is 0, except for rounding.
        scale = whole if name.endswith("k_proj.bias") else gradient.norm()
        assert scale > 0, name
        assert (actual[name] - gradient).norm() <= tolerance * scale, name
