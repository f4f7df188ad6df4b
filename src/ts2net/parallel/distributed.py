"""Rank, events and communication of the processes of a distributed run.

Every function also works in a run of one process, with or without a launcher.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from operator import itemgetter
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from ..errors import one_line

_TIMEOUT = timedelta(days=7)  # a long wait is safe: a process that dies closes its connections, which ends the wait

Part = tuple[torch.Tensor, ...]
"""Row indices, int64 of shape `(n,)`, followed by tensors of shape `(n, ...)` with the rows at these indices."""

T = TypeVar("T")


class MainProcessError(RuntimeError):
    """Raised on the other processes when the main process has failed. The main process reports its own error."""


def is_distributed() -> bool:
    """Whether this process has joined a distributed run, of one process or more."""
    return dist.is_available() and dist.is_initialized()


def num_processes() -> int:
    """Number of processes of the run."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def is_main_process() -> bool:
    """Whether this is the process of rank 0."""
    return rank() == 0


def is_first_process_to(action: str) -> bool:
    """Whether this process is the first of the run to call this function with `action`.

    Unlike a collective, the call does not wait for other processes.
    """
    world = dist.group.WORLD if is_distributed() else None
    if world is None:
        return True
    try:
        return world.get_group_store().add(f"ts2net {action}", 1) == 1
    except dist.DistError:  # the process that hosts the store has ended
        return True


def announce(event: str) -> None:
    """Announce an event to all processes of the run, without waiting for them."""
    is_first_process_to(f"announce {event}")


def is_announced(event: str) -> bool:
    """Whether a process of the run has announced an event, or the process that hosts the store has ended."""
    world = dist.group.WORLD if is_distributed() else None
    if world is None:
        return False
    try:
        return world.get_group_store().check([f"ts2net announce {event}"])
    except dist.DistError:
        return True


# ---------------------------------------------------------------------------------------------------------------------
# Tensors, over the backend of the run


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate a tensor of shape `(n, ...)` over all processes, in order of rank, to `(P * n, ...)`.

    Every process must hold the same shape and dtype.
    """
    if num_processes() == 1:
        return tensor
    gathered = tensor.new_empty(num_processes() * len(tensor), *tensor.shape[1:])
    dist.all_gather_single(gathered, tensor.contiguous())
    return gathered


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Same as [`gather`], but differentiable.

    In the backward pass each process gets the gradient of its own part, summed over all processes. So every process
    must take part in the backward pass.
    """
    if num_processes() == 1:
        return tensor
    return _GatherWithGradient.apply(tensor)


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return gather(tensor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_gathered):
        grad = grad_gathered.new_empty(len(grad_gathered) // num_processes(), *grad_gathered.shape[1:])
        dist.reduce_scatter_single(grad, grad_gathered.contiguous())
        return grad


def mean_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Average a tensor over all processes, without gradient. Every process must hold the same shape and dtype."""
    if num_processes() == 1:
        return tensor
    mean = tensor.clone()
    dist.all_reduce(mean)
    return mean / num_processes()


# ---------------------------------------------------------------------------------------------------------------------
# Objects and CPU tensors


@contextlib.contextmanager
def cpu_group() -> Iterator[dist.ProcessGroup | None]:
    """Group of all processes for exchanging CPU tensors and objects; `None` in a run of one process.

    The group uses gloo with every backend of the run, so it needs no GPU memory. Its timeout is long enough to wait
    for a slower process. Every process must enter the context.
    """
    if num_processes() == 1:
        yield None
        return
    group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
    try:
        yield group
    finally:
        dist.destroy_process_group(group)


def gather_rows(parts: list[Part], num_rows: int, group: dist.ProcessGroup | None) -> list[torch.Tensor]:
    """Join the parts of all processes on the main process.

    Args:
        parts: This process's parts. All parts of the run must have the same number of tensors, and the same shapes
            except for the number of rows.
        num_rows: Number of rows of the result.
        group: From [`cpu_group`].

    Returns:
        On the main process, the joined tensors of shape `(num_rows, ...)`. Rows that are in no part are zero. The
        list is empty on the other processes, and if no process has a part.
    """
    joined: list[torch.Tensor] = []
    for numbers, *tensors in _gather_parts(parts, group):
        joined = joined or [tensor.new_zeros(num_rows, *tensor.shape[1:]) for tensor in tensors]
        for whole, tensor in zip(joined, tensors, strict=True):
            whole[numbers] = tensor
    return joined


def _gather_parts(parts: list[Part], group: dist.ProcessGroup | None) -> Iterator[Part]:
    """Yield the parts of all processes, one at a time, on the main process, and nothing on the other processes."""
    if group is None:
        yield from parts
        return
    # Point to point, because a collective needs parts of equal size.
    shapes = gather_objects([[(tensor.shape, tensor.dtype) for tensor in part] for part in parts], group)
    if group.rank():
        for part in parts:
            for tensor in part:
                dist.send(tensor.contiguous(), dst=0, group=group)
        return
    yield from parts
    for source in range(1, group.size()):
        for shapes_of_part in shapes[source]:
            received = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in shapes_of_part)
            for tensor in received:
                dist.recv(tensor, src=source, group=group)
            yield received


def gather_objects(item: Any, group: dist.ProcessGroup | None) -> list[Any]:
    """Return the items of all processes by rank on the main process, and an empty list on the other processes."""
    if group is None:
        return [item]
    items = [None] * group.size() if group.rank() == 0 else None
    dist.gather_object(item, items, dst=0, group=group)
    return items or []


def gather_dicts(entries: dict[int, T], group: dist.ProcessGroup | None) -> dict[int, T]:
    """Return the entries of all processes, sorted by key, on the main process, and an empty dict on the others."""
    everyones = gather_objects(entries, group)
    return dict(sorted((item for entries in everyones for item in entries.items()), key=itemgetter(0)))


def on_main_process(work: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    """Call `work` on the main process only and return its result on all processes.

    Raises:
        MainProcessError: On the other processes, if `work` fails. The main process raises the error of `work`.
    """
    if group is None:
        return work()
    result, failure = None, None
    if group.rank() == 0:
        try:
            result = work()
        except Exception as error:
            failure = error
    outcome = [result, None if failure is None else one_line(failure)]
    dist.broadcast_object_list(outcome, src=0, group=group)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise MainProcessError(f"the main process had to stop: {outcome[1]}")
    return cast(T, outcome[0])
