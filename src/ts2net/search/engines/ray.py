"""Engine of a Ray cluster.

Actors decode and encode. Only this process assembles videos, so the index has one writer. The actors receive the model
from this process. Videos are opened by their paths, which must be the same on every machine.

Work that is lost with a machine is repeated: by Ray if possible, otherwise by this process when the stream fails or
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

# Ray reads these variables when it is imported or started. Without them it sends usage statistics, prints internal
# messages, and reconnects automatically after a disconnect.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

with name_missing_extra():
    import pyarrow as pa
    import ray
    import ray.data

_VIDEOS_A_BLOCK = 8  # at most; if a machine is lost, the videos of whole blocks are decoded again
_BLOCK_BYTES = (16 * 2**20, 128 * 2**20)  # minimum and maximum target size of a block of decoded windows
_STORE_BYTES = 2**30  # for decoded windows, if Ray is started on this machine only
_PATIENCE = 60.0  # seconds without an item, after a machine was lost, until the stream counts as stalled


class ClusterError(RuntimeError):
    """The cluster failed. Finished videos have been yielded, so a repeated call continues."""


@dataclass(frozen=True)
class RayEngine:
    """Engine that decodes and encodes on a cluster; see [`Engine`]. It uses GPUs if the cluster has any.

    Args:
        batch_size: Number of windows that are encoded at a time.
        address: Address of the cluster, as for `ray.init`; `None` starts Ray on this machine only, until encoding
            ends.
    """

    batch_size: int = 16
    address: str | None = None

    @property
    def model_device(self) -> str:
        """Device on which this process should load the model. The CPU, because it only sends the model to actors."""
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
            assembler = Assembler()  # unfinished videos begin again from their first window
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
# In this process


class _StalledError(Exception):
    """The stream has stalled."""


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
    """Yield results of the cluster, read by a thread, so that a stall can be detected.

    Raises:
        _StalledError: If a machine was lost, and no item has arrived for `_PATIENCE` seconds.
        ray.exceptions.RayError: If Ray fails.
    """
    dataset = _dataset(files, settings, encoder, batch_size)
    machines = _machines()

    def check_machines(idle_seconds: float) -> None:
        lost = machines.keys() - _machines().keys()
        if lost and idle_seconds > _PATIENCE:
            raise _StalledError(f"nothing comes since {len(lost)} of its machines are lost")

    items = (item for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow") for item in unpack(block))
    # The thread must have left Ray before the connection is closed, or Ray may crash this process.
    return read_ahead(
        items,
        4 * batch_size,
        interrupt=partial(end_stream, dataset),
        on_idle=check_machines,
        join_seconds=10.0,
    )


def end_stream(dataset: Any) -> None:
    """End the stream of a dataset, even while it is stalled, once its first block has arrived.

    Ray has no public API for this.
    """
    shut_down_executor = dataset._synchronize_progress_bar
    with suppress(Exception):  # an earlier error matters more
        shut_down_executor()


def _dataset(files: list[VideoFile], settings: WindowSettings, encoder: WindowEncoder, batch_size: int) -> Any:
    """Return a dataset that decodes and encodes blocks of files."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised as well
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Each block is encoded as it arrives. If batches were assembled from blocks of another size, an actor would wait
    # for windows to fill its batch, and other actors for the windows that it holds.
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
    # One decoding actor per core, and one encoding actor per GPU; without GPUs one per core too, and the operating
    # system shares the cores. Actors request less than that, so that those of a lost machine fit on the others.
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
    """Return the resources of each live machine of the cluster."""
    return {machine["NodeID"]: machine["Resources"] for machine in ray.nodes() if machine["Alive"]}


def _room(machines: Any, resource: str) -> float:
    """Return the share of a resource that remains if the largest machine is lost; 1 on a single machine."""
    amounts = [machine.get(resource, 0.0) for machine in machines]
    return 1 - max(amounts) / sum(amounts) or 1.0
