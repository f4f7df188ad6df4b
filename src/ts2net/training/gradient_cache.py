"""Gradient cache for batches that do not fit into device memory (GradCache, Gao et al. 2021).

The contrastive loss needs all embeddings of a batch at once, but not all activations. So a step
1. encodes the batch in chunks without gradient and keeps the embeddings;
2. computes the loss over the whole batch of all processes, and its gradient with respect to the embeddings;
3. encodes each chunk again, with gradient and the same random numbers, and propagates that gradient to the weights.
The memory is that of one chunk, the cost is one more forward pass, and the gradients equal those without chunks.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .contrastive import ContrastiveLoss, contrastive_loss_over_processes, loss_inputs
from .sharding import without_gradient_sync


class GradientCache:
    """Computes the gradients of a contrastive batch in chunks.

    Works with a plain model, `DistributedDataParallel` and `fully_shard` (FSDP 2). Gradients are reduced over the
    processes once per step, after the last chunk. With FSDP 2 every process holds unsharded gradients until then.

    Args:
        model: A TS2-Net in training, wrapped or not.
        chunk_size: Maximum number of clips that are encoded at once.
        backward: Function that differentiates the loss, such as `accelerator.backward`, or one that scales the loss
            for mixed precision. It is called once per step with a scalar.
        watch: Called with the output of each chunk's first pass, for metrics that are not part of the loss.

    Raises:
        ValueError: If `chunk_size` is not a positive number.
    """

    def __init__(
        self,
        model: nn.Module,
        chunk_size: int,
        backward: Callable[[torch.Tensor], Any] = torch.Tensor.backward,
        watch: Callable[[Any], Any] | None = None,
    ) -> None:
        if not isinstance(chunk_size, int) or chunk_size < 1:
            raise ValueError(f"chunk_size must be a positive whole number, got {chunk_size!r}")
        self.model = model
        self.chunk_size = chunk_size
        self.backward = backward
        self.watch = watch

    def step(
        self,
        inputs: Mapping[str, Any],
        video_keys: torch.Tensor | None = None,
        selection_weight: float = 0.0,
    ) -> ContrastiveLoss:
        """Add the gradients of one batch to the parameters' `grad`.

        Args:
            inputs: Arguments of the model's `forward`: tensors whose first axis has the `n` pairs, on any device, and
                settings. Every process must have the same number of pairs.
            video_keys: int64 of shape `(n,)`, equal for equal videos; see [`contrastive_loss_over_processes`].
            selection_weight: Weight of the selection loss; with 0 it is not computed.

        Returns:
            The loss and accuracies of the batch. Its `loss` is already differentiated and detached.

        Raises:
            ValueError: If the tensors of `inputs` differ in length, for the reasons of
                [`contrastive_loss_over_processes`], or if `backward` has not differentiated the loss.
        """
        device = next(self.model.parameters()).device
        chunks = self._cut(inputs)
        random_states: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        parts: list[dict[str, torch.Tensor]] = []
        for chunk in chunks:
            random_states.append(_random_state(device))
            with torch.no_grad():
                outputs = self._encode(chunk, device)
            if self.watch is not None:
                self.watch(outputs)
            # Copies, because a compiled model may reuse the memory of its outputs.
            parts.append({name: kept.clone() for name, kept in loss_inputs(outputs, selection_weight).items()})
            del outputs  # it holds every token of the chunk

        kept = {
            name: (part if name == "logit_scale" else torch.cat([part[name] for part in parts])).requires_grad_()
            for name, part in parts[-1].items()
        }
        result = contrastive_loss_over_processes(
            self.model,
            **kept,
            padding_mask_videos=inputs.get("padding_mask_videos"),
            video_keys=video_keys,
            selection_weight=selection_weight,
        )
        self.backward(result.loss)
        gradients = {name: self._gradient_of(tensor) for name, tensor in kept.items()}

        for index, (chunk, random_state) in enumerate(zip(chunks, random_states, strict=True)):
            rows = slice(index * self.chunk_size, (index + 1) * self.chunk_size)
            last = index == len(chunks) - 1
            # The scale is one number for the whole batch, so its gradient is applied once.
            chunk_gradients = {name: gradient[rows] for name, gradient in gradients.items() if name != "logit_scale"}
            chunk_gradients["logit_scale"] = gradients["logit_scale"] * last
            _set_random_state(device, random_state)
            with nullcontext() if last else without_gradient_sync(self.model):
                replayed = loss_inputs(self._encode(chunk, device), selection_weight)
                _take_on(replayed, chunk_gradients)
        return replace(result, loss=result.loss.detach())

    def _encode(self, chunk: Mapping[str, Any], device: torch.device) -> Any:
        # The batch may be in host memory: only one chunk has to fit into device memory.
        chunk = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in chunk.items()
        }
        return self.model(**chunk, return_dict=True)

    def _gradient_of(self, kept: torch.Tensor) -> torch.Tensor:
        if kept.grad is None:
            raise ValueError(f"backward must differentiate the loss that it is given, got {self.backward!r}")
        return kept.grad

    def _cut(self, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        lengths = {name: len(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(f"all tensors of inputs must have the same length, at least 1, got {lengths}")
        chunks = {
            name: value.split(self.chunk_size) for name, value in inputs.items() if isinstance(value, torch.Tensor)
        }
        settings = {name: value for name, value in inputs.items() if name not in chunks}
        return [dict(zip(chunks, parts, strict=True)) | settings for parts in zip(*chunks.values(), strict=True)]


def _take_on(outputs: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor]) -> None:
    """Backpropagate the gradients with respect to the outputs to the weights."""
    learning = [name for name, output in outputs.items() if output.requires_grad]
    torch.autograd.backward([outputs[name] for name in learning], [gradients[name] for name in learning])


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the random state of the CPU, which draws seeds, and of the device, which draws dropout."""
    on_device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    return torch.get_rng_state(), on_device


def _set_random_state(device: torch.device, state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    on_cpu, on_device = state
    torch.set_rng_state(on_cpu)
    if on_device is not None:
        torch.get_device_module(device).set_rng_state(on_device, device)
