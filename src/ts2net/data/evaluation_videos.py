"""Videos and texts of a split for evaluation: each video is decoded by one process, each text has its video's index.

- Each of `P` processes reads the rows of the whole split and decodes every `P`-th video. So all processes have all
  texts and the same indices without communication, for any number of shards and any remainder of videos divided by
  processes. The process itself reads the rows and hands each to the next free worker for decoding.
- Many datasets have one row per caption. Rows of the same video are merged into one video with all captions.
  Otherwise the copies of a video would tie with it, and every query would count as missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .collating import check_sizes
from .rows import VideoRow, as_stream, read_rows
from .worker_batches import RowDecoder, worker_batches

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class EvaluationRow:
    """A video of the split, without its frames.

    Attributes:
        video_id: The video's id.
        captions: The texts of the video. A video without captions is a candidate for other videos' texts only.
        group: Name of the group in which the video is ranked; `None` is the whole split.
    """

    video_id: str
    captions: tuple[str, ...]
    group: str | None


class EvaluationVideos:
    """The videos and texts of a split, for one of `num_processes` processes.

    A video's index counts from 0 in the order of the split.

    Args:
        dataset: The split, with the standard columns.
        processor: The model's processor.
        batch_size: Videos per batch of this process.
        num_frames: Maximum number of frames per video. Shorter videos are padded to it.
        process_index: Index of this process.
        num_processes: Number of processes.
        num_workers: Worker processes that decode for this process; with 0 it decodes itself.

    Raises:
        TypeError: If `dataset` is not a dataset.
        ValueError: If the dataset is empty, lacks a column, or a number is out of range.
    """

    def __init__(
        self,
        dataset: datasets.Dataset | datasets.IterableDataset,
        processor: TS2NetProcessor,
        *,
        batch_size: int,
        num_frames: int,
        process_index: int = 0,
        num_processes: int = 1,
        num_workers: int = 0,
    ) -> None:
        check_sizes(processor, num_frames)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must lie from 0 to {num_processes - 1}, got {process_index}")
        self._stream = as_stream(dataset)
        self._processor = processor
        self._batch_size = batch_size
        self._num_frames = num_frames
        self._process_index = process_index
        self._num_processes = num_processes
        self._num_workers = num_workers
        self._rows: list[EvaluationRow] | None = None
        self.broken: dict[int, BrokenVideo] = {}
        """Videos of this process that can't be used, by index; complete after all batches have been read."""

    @property
    def rows(self) -> list[EvaluationRow]:
        """All videos of the split, in order. The split is read for them unless all batches have been read before."""
        if self._rows is None:
            for _ in self._read():
                pass
        assert self._rows is not None
        return self._rows

    @property
    def texts(self) -> list[str]:
        """All texts of the split, in the order of their videos."""
        return [caption for row in self.rows for caption in row.captions]

    @property
    def video_of_text(self) -> torch.Tensor:
        """The index of each text's video, int64 of shape `(texts,)`."""
        return torch.tensor([index for index, row in enumerate(self.rows) for _ in row.captions], dtype=torch.int64)

    def batches(self) -> Iterator[dict[str, Any]]:
        """Decode the videos of this process, in order. Workers stop after the last batch, or with the iterator.

        Yields:
            `indices`, int64 of shape `(n,)`; `video_ids`, a list of strings; `pixel_values_videos` of shape
            `(n, num_frames, 3, H, W)`; and `padding_mask_videos` of shape `(n, num_frames)`. A batch has at
            least one video. Videos that can't be used are left out and recorded in [`~EvaluationVideos.broken`].

        Raises:
            ValueError: If the split has no rows.
        """
        self.broken = {}
        batches = worker_batches(
            RowDecoder(self._processor, self._num_frames),
            batch_size=self._batch_size,
            sampler=_LocalRows(self),
            num_workers=self._num_workers,
            collate_fn=_collate,
        )
        for batch, broken in batches:
            self.broken |= broken
            if batch is not None:
                yield batch

    def _read(self) -> Iterator[tuple[int, VideoRow]]:
        """Yield the index and the first row of each video, and set `rows` after the last video."""
        rows: dict[Hashable, EvaluationRow] = {}
        for row in read_rows(self._stream):
            video = _video_identity(row)
            if video in rows:
                rows[video] = replace(rows[video], captions=rows[video].captions + row.captions)
                continue
            index = len(rows)
            rows[video] = EvaluationRow(row.video_id, row.captions, row.group)
            yield index, row
        if not rows:
            raise ValueError("the data set is empty: expected at least one video")
        self._rows = list(rows.values())


def _video_identity(row: VideoRow) -> Hashable:
    """Return a key that is equal for rows of the same video in the same group."""
    video = row.video
    data, path = (video.get("bytes"), video.get("path")) if isinstance(video, dict) else (video, None)
    # The id is not enough: files in two folders may have the same name.
    content = hashlib.sha256(data).digest() if isinstance(data, bytes) else path
    return row.video_id, row.start, row.end, row.group, content


class _LocalRows:
    """Sampler of the data loader. Its items are the rows themselves, not indices."""

    def __init__(self, videos: EvaluationVideos) -> None:
        self._videos = videos

    def __iter__(self) -> Iterator[tuple[int, VideoRow]]:
        for index, row in self._videos._read():
            if index % self._videos._num_processes == self._videos._process_index:
                yield index, row


def _collate(
    decoded: list[tuple[int, str, dict[str, torch.Tensor] | BrokenVideo]],
) -> tuple[dict[str, Any] | None, dict[int, BrokenVideo]]:
    """Return a batch of the usable videos, or `None` without any, and the broken videos by index."""
    broken = {index: video for index, _, video in decoded if isinstance(video, BrokenVideo)}
    good = [
        {"indices": index, "video_ids": video_id, **video}
        for index, video_id, video in decoded
        if not isinstance(video, BrokenVideo)
    ]
    return (default_collate(good) if good else None), broken
