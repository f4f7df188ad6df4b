"""The engine of a Ray cluster.

Actors decode and encode. Only this process assembles videos, so the index has one writer. The actors receive the model
from this process. Videos are opened by their paths, which must be the same on every machine.

Work that is lost with a machine is repeated: by Ray if it can, otherwise by this process when the stream fails or
stalls.
"""

import logging
import math
import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ...encoding.runtimes import runtime_of
from ...errors import one_line
from ...lazy import name_missing_extra
from ...parallel.pool import available_cores
from ...parallel.read_ahead import read_ahead
from ..decoded import DecodedWindow
from ..encoding import WindowEncoder
from ..sources import VideoFile
from ..streaming import decode_windows
from ..windows import WindowSettings
from .assembling import Assembler, Outcome, Progress
from .ray_decoder import Decoder, pack, unpack

# Read when Ray is imported or started: else it reports to its makers, writes of its inner life to the screen, and
# connects again by itself what was just disconnected.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

with name_missing_extra():
    import pyarrow as pa
    import ray
    import ray.data

_VIDEOS_A_BLOCK = 8  # at most: when a machine is lost, the videos of whole blocks are decoded again
_BLOCK_BYTES = (16 * 2**20, 128 * 2**20)  # of decoded windows that travel together, at least and at most
_STORE_BYTES = 2**30  # for decoded windows, on a Ray of this machine alone
_PATIENCE = 60.0  # seconds in which nothing has come since a machine was lost


class ClusterError(RuntimeError):
    """The cluster failed. Finished videos have been yielded, so a repeated call continues."""


@dataclass(frozen=True)
class RayEngine:
    """Decodes and encodes on a cluster; see [`Engine`]. It computes on GPUs if the cluster has any.

    Args:
        batch_size: Windows encoded at a time.
        address: Of the cluster, as `ray.init` takes it; `None` is a Ray of this machine alone, for as long as encoding
            takes.
    """

    batch_size: int = 16
    address: str | None = None

    @property
    def model_device(self) -> str:
        """Where this process should load the model, which it only hands on."""
        return "cpu"

    def start(self) -> None:
        """Do nothing: Ray starts when there are videos."""

    def encode(
        self, files: Sequence[VideoFile], settings: WindowSettings, encoder: WindowEncoder
    ) -> Generator[Outcome, None, None]:
        """Decode and encode videos; see [`Engine.encode`].

        Raises:
            ClusterError: If the cluster does not exist, or fails twice without finishing a video.
        """
        left = {file.video_id: file for file in files}
        failures = 0
        while left:
            before = len(left)
            reason = "the stream ended without them"
            assembler = Assembler()  # a video that wasn't done begins again from its first window
            try:
                with (
                    _connected(self.address),
                    closing(_stream(list(left.values()), settings, encoder, self.batch_size)) as stream,
                ):
                    for item, frames in stream:
                        if item.video_id not in left:
                            continue  # repeated work may include videos that are finished
                        for outcome in assembler.add(item, frames):
                            if not isinstance(outcome, Progress):
                                del left[item.video_id]
                            yield outcome
            except (ray.exceptions.RayError, _StalledError) as error:
                reason = one_line(error)
            failures = failures + 1 if len(left) == before else 0
            if failures == 2:
                raise ClusterError(f"Ray can't index {len(left):,} of the videos: {reason}")


# ---------------------------------------------------------------------------------------------------------------------
# On the cluster


class _Encoder:
    """An actor that encodes."""

    def __init__(self, pickled: Any, batch_size: int) -> None:
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self._encoder: WindowEncoder = pickle.loads(ray.get(pickled))
        self._encoder.model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        self._batch_size = batch_size

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        decoded = list(unpack(block))
        windows = [item for item in decoded if isinstance(item, DecodedWindow)]
        yield pack([(item, None) for item in decoded if not isinstance(item, DecodedWindow)])
        for first in range(0, len(windows), self._batch_size):
            batch = windows[first : first + self._batch_size]
            small = [replace(window, pixels=np.empty(0, np.uint8)) for window in batch]
            yield pack(list(zip(small, self._encoder.encode(batch), strict=True)))


# ---------------------------------------------------------------------------------------------------------------------
# From here


class _StalledError(Exception):
    """Nothing comes any more."""


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster. The actors and data of this process end with the connection."""
    if ray.is_initialized():
        raise ClusterError("this process is connected to Ray already, and indexing needs a connection of its own")
    alone: dict[str, Any] = {
        "num_cpus": available_cores(),
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
    }
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(alone if address is None else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(f"there is no Ray cluster at {address or 'this machine'}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _stream(
    files: list[VideoFile], settings: WindowSettings, encoder: WindowEncoder, batch_size: int
) -> Generator[Any, None, None]:
    """Yield results of the cluster, which a thread reads, so that a stall is noticed.

    Raises:
        _StalledError: If a machine was lost, and nothing has come for a while.
        ray.exceptions.RayError: If Ray fails.
    """
    dataset = _dataset(files, settings, encoder, batch_size)
    machines = _machines()

    def check_machines(idle_seconds: float) -> None:
        lost = machines.keys() - _machines().keys()
        if lost and idle_seconds > _PATIENCE:
            raise _StalledError(f"nothing comes since {len(lost)} of its machines are lost")

    items = (item for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow") for item in unpack(block))
    # Ray's own thread must be out of Ray before the connection goes, or it may crash this process.
    return read_ahead(
        items,
        4 * batch_size,
        interrupt=partial(end_stream, dataset),
        on_idle=check_machines,
        join_seconds=10.0,
    )


def end_stream(dataset: Any) -> None:
    """End the stream of a dataset, also while nothing comes of it, once its first block has come.

    Ray has no public way.
    """
    shut_down_executor = dataset._synchronize_progress_bar
    with suppress(Exception):  # an earlier error matters more
        shut_down_executor()


def _dataset(files: list[VideoFile], settings: WindowSettings, encoder: WindowEncoder, batch_size: int) -> Any:
    """Blocks of files, decoded and encoded."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised as well
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What travels together is encoded together. Were batches made of blocks of another size, an actor would wait for
    # what fills its batch, and others for what it has been given.
    window_bytes = settings.num_frames * 3 * encoder.model.config.vision_config.image_size**2
    least, most = _BLOCK_BYTES
    context.target_max_block_size = min(max(batch_size * window_bytes, least), most)

    machines = _machines().values()
    cpus = int(sum(machine.get("CPU", 0) for machine in machines))
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    if gpus and runtime_of(encoder.model) == "onnx":
        raise ClusterError("the cluster has GPUs, and ONNX Runtime computes on CPUs: choose runtime='torch'")
    if cpus == 0:
        raise ClusterError("the cluster has no CPU that decodes")
    # For each core one actor that decodes; and for each GPU one that encodes, or else for each core too, where the
    # system shares it out. They ask for less than that, so that those of a lost machine find room on the others.
    share = math.floor(1e4 * _room(machines, "CPU") / (1 if gpus else 2)) / 1e4
    decode = partial(decode_windows, settings=settings, processor=encoder.processor.video_processor, num_threads=1)
    on_cpu = WindowEncoder(deepcopy(encoder.model).cpu(), encoder.processor)

    size = max(1, min(_VIDEOS_A_BLOCK, len(files) // (4 * cpus)))
    blocks = [pack(files[first : first + size]) for first in range(0, len(files), size)]
    decoders = min(cpus, len(blocks))
    return (
        ray.data.from_arrow(blocks)
        .map_batches(
            Decoder,
            fn_constructor_args=(pickle.dumps(decode, protocol=5),),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=decoders),
            num_cpus=share,
        )
        .map_batches(
            _Encoder,
            fn_constructor_args=(ray.put(pickle.dumps(on_cpu, protocol=5)), batch_size),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=gpus or cpus),
            **({"num_gpus": 1} if gpus else {"num_cpus": share}),
        )
    )


def _machines() -> dict[str, dict[str, float]]:
    """The resources of each machine of the cluster that is alive."""
    return {machine["NodeID"]: machine["Resources"] for machine in ray.nodes() if machine["Alive"]}


def _room(machines: Any, resource: str) -> float:
    """The share of a resource that remains if the machine with the most of it is lost; 1 on a single machine."""
    amounts = [machine.get(resource, 0.0) for machine in machines]
    return 1 - max(amounts) / sum(amounts) or 1.0
