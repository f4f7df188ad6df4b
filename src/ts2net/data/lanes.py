"""Lanes: the order of the training samples, which is the same on any hardware.

A run is divided into lanes. Their number depends on the data and the global batch size only. A lane reads its own
shards, pass after pass without end, and every global batch takes the same number of samples from each lane. Processes
and their workers only share out the lanes. There is no random state to save: the order, a caption and a seed each
depend on the run's seed and the position in the run, so a lane can start at any position.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import one_line
from ..videos.broken import BrokenVideo
from .rows import VideoRow, read_rows

if TYPE_CHECKING:
    import datasets

MAX_LANES = 64


class DataLoadingError(RuntimeError):
    """Raised when the training data can't be read any further. The message names the problem."""


class Position(NamedTuple):
    """Reading position of a lane: the pass, and the number of rows read in it, including rows of broken videos."""

    pass_index: int = 0
    rows_read: int = 0


@dataclass(frozen=True)
class LaneSample:
    """A sample of a lane.

    Attributes:
        tensors: The sample.
        broken: The videos skipped since the previous sample because they can't be used.
        position: The lane's position after the sample.
    """

    tensors: dict[str, Any]
    broken: list[BrokenVideo]
    position: Position


def stable_hash(*parts: Any) -> int:
    """Hash strings and numbers to an integer from 0 to 2**63 - 1, the same on any machine at any time."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def caption_of_pass(captions: Sequence[str], *, seed: int, video_id: str, pass_index: int) -> str:
    """Return the caption of a video in a pass: each is used once, in random order, before any is used again."""
    cycle, turn = divmod(pass_index, len(captions))
    order = sorted(range(len(captions)), key=lambda index: stable_hash("caption", seed, video_id, cycle, index))
    return captions[order[turn]]


def count_lanes(batch_size: int, num_shards: int, group_size: int = 1) -> int:
    """Return the number of lanes: the most, up to the number of shards, that divide a batch into whole groups."""
    most = min(batch_size // group_size, num_shards, MAX_LANES)
    return next(lanes for lanes in range(most, 0, -1) if (batch_size // group_size) % lanes == 0)


def check_processes(batch_size: int, num_shards: int, num_processes: int, group_size: int = 1) -> None:
    """Check that the processes can divide the lanes evenly.

    Raises:
        ValueError: If they can't. The message suggests a change.
    """
    lanes = count_lanes(batch_size, num_shards, group_size)
    if lanes % num_processes == 0:
        return
    problem = f"{num_processes} processes can't share a global batch of {batch_size} from {num_shards} shards evenly"
    if num_processes > MAX_LANES:
        raise ValueError(f"{problem}: at most {MAX_LANES} processes can read together")
    if batch_size % num_processes:
        raise ValueError(f"{problem}: make the global batch a multiple of {num_processes}")
    enough = max(count for count in range(1, MAX_LANES + 1) if batch_size % count == 0 and count % num_processes == 0)
    raise ValueError(
        f"{problem}: the batch is read in {lanes} equal parts, which {num_processes} does not divide; prepare the "
        f"data in {enough} shards (ts2net prepare --shards {enough}), or change the global batch"
    )


class Lane:
    """One of the lanes of a run.

    Args:
        stream: The whole dataset.
        index: Index of this lane.
        num_lanes: Number of lanes.
        seed: The run's seed.
        shuffle_buffer: Size of the shuffle buffer in rows, over all lanes.
        group_size: Maximum number of rows of one group that stay together when shuffled.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        index: int,
        num_lanes: int,
        *,
        seed: int,
        shuffle_buffer: int,
        group_size: int = 1,
    ) -> None:
        self._name = f"part {index + 1} of {num_lanes} of the data set"
        self._seed = stable_hash("order", seed, index)
        self._buffer_size = -(-shuffle_buffer // num_lanes)
        self._group_size = group_size
        # To keep groups together, `datasets` only shuffles the shards here and reads them one after another.
        whole_shards = {"buffer_size": 1, "max_buffer_input_shards": 1}
        self._stream = stream.shard(num_shards=num_lanes, index=index).shuffle(
            seed=self._seed, **({"buffer_size": self._buffer_size} if group_size == 1 else whole_shards)
        )

    def samples(
        self, prepare: Callable[[VideoRow, int], dict[str, Any] | BrokenVideo], position: Position
    ) -> Iterator[LaneSample]:
        """Yield samples without end, starting at a position. Earlier rows of its pass are read but not decoded.

        Args:
            prepare: Function that makes a sample from a row and the index of the pass.
            position: Where to start.

        Raises:
            DataLoadingError: If the rows can't be read, a whole pass gives no sample, or the position is past the end
                of the data.
        """
        broken: list[BrokenVideo] = []
        for pass_index in itertools.count(position.pass_index):
            skipped = position.rows_read if pass_index == position.pass_index else 0
            rows_read = num_samples = 0
            for rows_read, row in enumerate(self._rows(pass_index), start=1):
                if rows_read <= skipped:
                    continue
                sample = prepare(row, pass_index)
                if isinstance(sample, BrokenVideo):
                    broken.append(sample)
                    continue
                num_samples += 1
                yield LaneSample(sample, broken, Position(pass_index, rows_read))
                broken = []
            if rows_read < skipped:
                raise DataLoadingError(
                    f"{self._name} has {rows_read} videos where it had {skipped}: the data has changed"
                )
            if rows_read == 0:
                raise DataLoadingError(f"{self._name} has no videos: prepare the data in fewer shards")
            if skipped == 0 and num_samples == 0:
                raise DataLoadingError(
                    f"none of the {rows_read} videos in {self._name} can be used; the last, {broken[-1].video_id}: "
                    f"{broken[-1].reason}"
                )

    def _rows(self, pass_index: int) -> Iterator[VideoRow]:
        """Yield the rows of a pass."""
        self._stream.set_epoch(pass_index)
        rows = read_rows(self._stream)
        if self._group_size > 1:
            capacity = max(1, self._buffer_size // self._group_size)
            rows = shuffle_groups(rows, self._group_size, capacity, random.Random(f"{self._seed} {pass_index}"))
        rows_read = 0
        try:
            for row in rows:
                yield row
                rows_read += 1
        except Exception as error:  # from the file system, the archive, the network, or the user's code
            raise DataLoadingError(
                f"{self._name} can't be read on after {rows_read} videos: {one_line(error)}"
            ) from error


def shuffle_groups(
    rows: Iterable[VideoRow], group_size: int, capacity: int, random: random.Random
) -> Iterator[VideoRow]:
    """Shuffle rows, but keep successive rows of one group together.

    Args:
        rows: The rows. A row without a group is shuffled alone.
        group_size: Maximum number of rows of a group that stay together.
        capacity: Size of the shuffle buffer in groups.
        random: Random number generator.
    """
    buffer: list[list[VideoRow]] = []
    for rows_of_group in _groups(rows, group_size):
        if len(buffer) < capacity:
            buffer.append(rows_of_group)
            continue
        index = random.randrange(capacity)
        yield from buffer[index]
        buffer[index] = rows_of_group
    random.shuffle(buffer)
    yield from itertools.chain.from_iterable(buffer)


def _groups(rows: Iterable[VideoRow], group_size: int) -> Iterator[list[VideoRow]]:
    group: list[VideoRow] = []
    for row in rows:
        if group and (len(group) == group_size or row.group is None or row.group != group[-1].group):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def as_positions(saved: dict[str, list[int]] | None, num_lanes: int) -> dict[int, Position]:
    """Return the positions of all lanes: the saved positions, or the start of the data.

    Raises:
        ValueError: If the saved positions belong to another number of lanes.
    """
    if saved is None:
        return dict.fromkeys(range(num_lanes), Position())
    positions = {int(lane): Position(*position) for lane, position in saved.items()}
    if sorted(positions) != list(range(num_lanes)):
        raise ValueError(
            f"positions are given of {len(positions)} parts, expected {num_lanes}: to go on, a run needs the global "
            f"batch and the shards that it began with, and the positions of all its processes"
        )
    return positions
