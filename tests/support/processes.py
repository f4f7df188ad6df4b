"""Work in real processes that communicate over gloo."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from support.fork_server import fork_context


def run_in_processes(work: Callable[..., Any], num_processes: int, folder: Path, *arguments: Any) -> list[Any]:
    """Call `work(*arguments)` in each process. Returns the results (tensors and plain values) in order of rank."""
    fork_context()
    torch.multiprocessing.start_processes(
        _process, (work, num_processes, folder, arguments), nprocs=num_processes, start_method="forkserver"
    )
    return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in range(num_processes)]


def _process(rank: int, work: Callable[..., Any], num_processes: int, folder: Path, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=num_processes,
        timeout=timedelta(seconds=60),
    )
    try:
        torch.save(work(*arguments), folder / f"result-{rank}.pt")
    finally:
        dist.destroy_process_group()
