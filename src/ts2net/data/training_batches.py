"""Training batches: streamed, shuffled, decoded in workers, and the same for any number of processes and workers.

A worker reads and decodes whole lanes (see `lanes`) and sends its part of each batch. The parts are joined in the
order of the lanes, so the batches do not depend on the number of workers. A failure in a worker is sent as a value,
because the message of a propagated exception would be the stack trace of another process.
"""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .collating import check_sizes, text_tensors, video_tensors
from .lanes import (
    MAX_LANES,
    DataLoadingError,
    Lane,
    Position,
    as_positions,
    caption_of_pass,
    check_processes,
    count_lanes,
    stable_hash,
)
from .rows import VideoRow, as_stream
from .trunk_states import TrunkStates
from .worker_batches import worker_batches

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)


class TrainingBatches:
    """Endless batches of a training run: the share of one process.

    Each pass over the data visits every video once, with one of its captions. A video with `n` captions is visited
    with each of them in `n` passes.

    Args:
        dataset: A dataset with the standard columns. Its number of shards limits the number of processes and workers.
        processor: The model's processor.
        batch_size: Samples per step, over all processes.
        num_frames: Maximum number of frames per video. Shorter videos are padded to it.
        max_words: Number of tokens to truncate or pad a text to, including the start and the end token.
        seed: Seed of the order, the captions and the noise of the selection.
        process_index: Rank of this process.
        num_processes: Number of processes. The global batches don't depend on it.
        num_workers: Worker processes that read and decode for this process; with 0 it reads and decodes itself.
        shuffle_buffer: Number of encoded videos held in memory for shuffling, over all processes. Their size is not
            limited: 4096 videos of 20 MB take 80 GB.
        positions: Position to resume a run from: the positions of all its processes, merged.
        same_video_negatives: Give two samples of one video different keys, so that each is a negative of the other in
            the loss, as in the released code.
        group_size: Number of successive rows of one group that are kept in one batch, as hard negatives of each other.
        states: Cached hidden states of the locked vision layers. Videos are not decoded if given.

    Attributes:
        num_lanes: Number of lanes that the data is read in, the same for all processes.

    Raises:
        TypeError: If `dataset` is not a dataset.
        ValueError: If the dataset is empty or lacks a column, a number is out of range, the processes can't share the
            batch evenly, or the positions belong to another run.
    """

    def __init__(
        self,
        dataset: datasets.Dataset | datasets.IterableDataset,
        processor: TS2NetProcessor,
        *,
        batch_size: int,
        num_frames: int,
        max_words: int,
        seed: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        num_workers: int = 0,
        shuffle_buffer: int = 4096,
        positions: dict[str, list[int]] | None = None,
        same_video_negatives: bool = False,
        group_size: int = 1,
        states: TrunkStates | None = None,
    ) -> None:
        check_sizes(processor, num_frames, max_words)
        for name, value in {
            "batch_size": batch_size,
            "shuffle_buffer": shuffle_buffer,
            "group_size": group_size,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must lie from 0 to {num_processes - 1}, got {process_index}")
        stream = as_stream(dataset, max_shards=MAX_LANES)
        if stream.num_shards < 1:
            raise ValueError("the data set has no shards: expected at least one video")
        if batch_size % group_size:
            raise ValueError(f"a batch of {batch_size} can't be made of groups of group_size={group_size}")
        if group_size > 1 and stream.features is not None and "group" not in stream.features:
            raise ValueError(f"group_size={group_size} needs a column 'group' in the training data")
        check_processes(batch_size, stream.num_shards, num_processes, group_size)

        self.num_lanes = count_lanes(batch_size, stream.num_shards, group_size)
        self._lanes = list(range(process_index, self.num_lanes, num_processes))
        all_positions = as_positions(positions, self.num_lanes)
        self._positions = {lane: all_positions[lane] for lane in self._lanes}
        self._num_workers = min(num_workers, len(self._lanes))
        if self._num_workers < num_workers:
            logger.warning(
                f"{self._num_workers} of {num_workers} workers are used, because each process reads "
                f"{len(self._lanes)} parts of the data set; prepare it in more shards to use them all"
            )
        self._reading = _Reading(
            stream,
            processor,
            self.num_lanes,
            batch_size,
            num_frames,
            max_words,
            seed,
            shuffle_buffer,
            same_video_negatives,
            group_size,
            states,
        )

    @property
    def positions(self) -> dict[str, list[int]]:
        """Reading position of each lane of this process: `{lane: [pass, rows read in the pass]}`.

        The positions are those after the last batch that was yielded, without the rows that workers have prefetched.
        They can be written as JSON. To resume a run, merge the positions of all its processes into one dictionary.
        """
        return {str(lane): list(position) for lane, position in self._positions.items()}

    def batches(self, count: int) -> Generator[dict[str, Any], None, None]:
        """Yield the next batches. Workers stop after the last batch, or when the iterator is closed.

        Each call first reads from the start of the pass up to the position, so prefer few long calls to many short
        ones.

        Args:
            count: Number of batches.

        Yields:
            `input_ids` and `attention_mask`, int64 of shape `(n, max_words)`; `pixel_values_videos` of shape
            `(n, num_frames, 3, H, W)`, or with `states` `vision_hidden_states` of shape `(n, num_frames, L, C)`;
            `padding_mask_videos` of shape `(n, num_frames)`; `selection_seeds`, int64 of
            shape `(n,)`, a seed for each sample's selection noise; `video_keys`, int64 of shape `(n,)`, equal for
            samples of the same video; `video_ids`, a list of strings; `broken`, a list of [`BrokenVideo`] that other
            videos have replaced; and `positions` after the batch. Here `n = batch_size / num_processes`.

        Raises:
            DataLoadingError: If the data can't be read, or no video of a lane can be used.
        """
        parts = worker_batches(
            _Parts(self._reading, self._lanes, self._positions, count),
            batch_size=None,
            num_workers=self._num_workers,
        )
        try:
            for _ in range(count):
                # The loader reads from its workers in turn, and each yields one part per batch.
                yield self._batch(list(itertools.islice(parts, max(self._num_workers, 1))))
        finally:
            # Stop the workers now, because after an exception garbage collection would do so much later.
            del parts

    def _batch(self, parts: list[_Part | _Failure]) -> dict[str, Any]:
        good_parts = []
        for part in parts:
            if isinstance(part, _Failure):
                raise DataLoadingError(part.message) from RuntimeError(f"in a worker:\n{part.stack_trace}")
            good_parts.append(part)
        self._positions = dict(sorted(item for part in good_parts for item in part.positions.items()))
        return _joined(good_parts, self._reading.samples_per_lane) | {"positions": self.positions}


@dataclass(frozen=True)
class _Reading:
    """The dataset and the settings that all lanes of a run share."""

    stream: datasets.IterableDataset
    processor: TS2NetProcessor
    num_lanes: int
    batch_size: int
    num_frames: int
    max_words: int
    seed: int
    shuffle_buffer: int
    same_video_negatives: bool
    group_size: int
    states: TrunkStates | None

    @property
    def samples_per_lane(self) -> int:
        """Number of samples of one lane in a batch."""
        return self.batch_size // self.num_lanes

    def lane(self, index: int) -> Lane:
        """Create a lane."""
        return Lane(
            self.stream,
            index,
            self.num_lanes,
            seed=self.seed,
            shuffle_buffer=self.shuffle_buffer,
            group_size=self.group_size,
        )

    def sample(self, row: VideoRow, pass_index: int) -> dict[str, Any] | BrokenVideo:
        """Make a sample from a row."""
        video_id = row.video_id
        if not row.captions:
            return BrokenVideo(video_id, "it has no captions")
        video = self._video(row)
        if isinstance(video, BrokenVideo):
            return video
        caption = caption_of_pass(row.captions, seed=self.seed, video_id=video_id, pass_index=pass_index)
        pair_key = [pass_index, caption] if self.same_video_negatives else []
        return {
            **text_tensors(caption, self.processor, self.max_words),
            **video,
            "selection_seeds": stable_hash("selection", self.seed, video_id, pass_index),
            "video_keys": stable_hash("video", video_id, *pair_key),
            "video_ids": video_id,
        }

    def _video(self, row: VideoRow) -> dict[str, torch.Tensor] | BrokenVideo:
        states = None if self.states is None else self.states.get(row)
        if states is not None:
            return states
        video = video_tensors(row, self.processor, self.num_frames)
        if self.states is not None and not isinstance(video, BrokenVideo):
            raise DataLoadingError(
                f"video {row.video_id!r} was not there when the locked layers were run over all videos: the data has "
                f"changed; start again"
            )
        return video


@dataclass(frozen=True)
class _Part:
    """Part of a batch from the lanes of one worker: samples, lane by lane, and broken videos and position per lane."""

    samples: dict[str, Any]
    broken: list[list[BrokenVideo]]
    positions: dict[int, Position]


@dataclass(frozen=True)
class _Failure:
    """An error in a worker."""

    message: str
    stack_trace: str


class _Parts(IterableDataset):
    """Dataset in each worker that yields the worker's part of each batch."""

    def __init__(self, reading: _Reading, lanes: list[int], positions: dict[int, Position], count: int) -> None:
        self._reading = reading
        self._lanes = lanes
        self._positions = positions
        self._count = count

    def __iter__(self) -> Iterator[_Part | _Failure]:
        worker = get_worker_info()
        try:
            yield from self._parts(self._lanes if worker is None else self._lanes[worker.id :: worker.num_workers])
        except DataLoadingError as error:
            if worker is None:
                raise
            yield _Failure(str(error), traceback.format_exc())

    def _parts(self, lanes: list[int]) -> Iterator[_Part]:
        sources = [self._reading.lane(lane).samples(self._reading.sample, self._positions[lane]) for lane in lanes]
        for _ in range(self._count):
            samples_by_lane = [list(itertools.islice(source, self._reading.samples_per_lane)) for source in sources]
            yield _Part(
                # In a worker this collates directly into memory that is shared with the main process.
                samples=default_collate([sample.tensors for samples in samples_by_lane for sample in samples]),
                broken=[[video for sample in samples for video in sample.broken] for samples in samples_by_lane],
                positions={lane: samples[-1].position for lane, samples in zip(lanes, samples_by_lane, strict=True)},
            )


def _joined(parts: list[_Part], samples_per_lane: int) -> dict[str, Any]:
    """Join the parts of a process's workers to a batch, in the order of the lanes.

    Worker `w` of `W` reads the process's lanes `w`, `w + W`, ...
    """
    num_lanes = sum(len(part.positions) for part in parts)
    joined: dict[str, Any] = {"broken": [[] for _ in range(num_lanes)]}
    for worker, part in enumerate(parts):
        joined["broken"][worker :: len(parts)] = part.broken
    joined["broken"] = [video for videos in joined["broken"] for video in videos]
    if len(parts) == 1:
        return parts[0].samples | joined  # without copying the frames

    num_samples = num_lanes * samples_per_lane
    rows = torch.arange(num_samples).view(num_lanes, samples_per_lane)
    indices = [rows[worker :: len(parts)].flatten() for worker in range(len(parts))]
    for name, first in parts[0].samples.items():
        if isinstance(first, torch.Tensor):
            joined[name] = first.new_empty(num_samples, *first.shape[1:])
            for part, index in zip(parts, indices, strict=True):
                joined[name][index] = part.samples[name]
        else:
            joined[name] = [None] * num_samples
            for part, index in zip(parts, indices, strict=True):
                for row, value in zip(index.tolist(), part.samples[name], strict=True):
                    joined[name][row] = value
    return joined
