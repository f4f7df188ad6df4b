"""A split for evaluation: each video decoded once over all processes, and every text with the place of its video.

Notable here:
- Each process reads the rows of the whole split, and decodes only its own videos, every P-th. So all of them know all
  texts and agree on the places without a word between them, however few shards there are and whether or not the videos
  divide by the processes. Rows are read in the process itself and handed to the next free worker for decoding.
- Many data sets have a row a caption. Rows of one video are one video with all their captions: taken for several, its
  copies would be tied with it, and every query would count as missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset, default_collate

from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .collating import check_sizes, video_tensors
from .rows import VideoRow, as_stream, read_rows
from .worker_batches import worker_batches

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class EvaluationRow:
    """A video of the split, without the video.

    Attributes:
        video_id: The video's id.
        captions: Its texts. There may be none: then it is only something to be mistaken for another.
        group: Name of the group of candidates that it is ranked in; None is the whole split.
    """

    video_id: str
    captions: tuple[str, ...]
    group: str | None


class EvaluationVideos:
    """The videos and texts of a split, for one of `num_processes` processes.

    A video's place is its number in the split, counted from 0, in the order in which they first come.

    Args:
        dataset: The split, with the standard columns.
        processor: The model's processor.
        batch_size: Videos a batch, of this process.
        num_frames: The most frames taken of a video, and what shorter ones are padded to.
        process_index: Which process this is.
        num_processes: How many there are.
        num_workers: Processes that decode for this one; with 0 it decodes itself.

    Raises:
        TypeError: If it is no data set.
        ValueError: If the data set is empty, lacks a column, or a number is out of range.
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
        """This process's videos that can't be used, by place; complete once all batches have been read."""

    @property
    def rows(self) -> list[EvaluationRow]:
        """All videos of the split in order, known once all batches have been read; before, this reads them."""
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
    def text_places(self) -> torch.Tensor:
        """The place of each text's video, int64 of shape `(texts,)`."""
        return torch.tensor([place for place, row in enumerate(self.rows) for _ in row.captions], dtype=torch.int64)

    def batches(self) -> Iterator[dict[str, Any]]:
        """Decode this process's videos, in order. Workers end with the last batch, or when the iterator is closed.

        Yields:
            `places`, int64 of shape `(n,)`; `video_ids`, a list of strings; `pixel_values_videos` of shape
            `(n, num_frames, 3, H, W)`; and `padding_mask_videos` of shape `(n, num_frames)`. There is at least one
            video in a batch. Those that can't be used are left out and stand in [`~EvaluationVideos.broken`].

        Raises:
            ValueError: If the split has no rows.
        """
        self.broken = {}
        batches = worker_batches(
            _Decoder(self._processor, self._num_frames),
            batch_size=self._batch_size,
            sampler=_OwnRows(self),
            num_workers=self._num_workers,
            collate_fn=_collate,
        )
        for batch, broken in batches:
            self.broken |= broken
            if batch is not None:
                yield batch

    def _read(self) -> Iterator[tuple[int, VideoRow]]:
        """Every video with its place, by its first row. After the last one, `rows` are known."""
        rows: dict[Hashable, EvaluationRow] = {}
        for row in read_rows(self._stream):
            video = _video_identity(row)
            if video in rows:
                rows[video] = replace(rows[video], captions=rows[video].captions + row.captions)
                continue
            place = len(rows)
            rows[video] = EvaluationRow(row.video_id, row.captions, row.group)
            yield place, row
        if not rows:
            raise ValueError("the data set is empty: expected at least one video")
        self._rows = list(rows.values())


def _video_identity(row: VideoRow) -> Hashable:
    """Equal for rows of one video. In another group a video is another candidate."""
    video = row.video
    data, path = (video.get("bytes"), video.get("path")) if isinstance(video, dict) else (video, None)
    # The id alone wouldn't do: where it is the name of a file, those of two folders may share it.
    content = hashlib.sha256(data).digest() if isinstance(data, bytes) else path
    return row.video_id, row.start, row.end, row.group, content


class _OwnRows:
    """The sampler of the loader: what it hands to the workers are the rows themselves."""

    def __init__(self, videos: EvaluationVideos) -> None:
        self._videos = videos

    def __iter__(self) -> Iterator[tuple[int, VideoRow]]:
        for place, row in self._videos._read():
            if place % self._videos._num_processes == self._videos._process_index:
                yield place, row


class _Decoder(Dataset):
    """What runs in a worker."""

    def __init__(self, processor: TS2NetProcessor, num_frames: int) -> None:
        self._processor = processor
        self._num_frames = num_frames

    def __getitem__(self, item: tuple[int, VideoRow]) -> tuple[int, str, dict[str, torch.Tensor] | BrokenVideo]:
        place, row = item
        return place, row.video_id, video_tensors(row, self._processor, self._num_frames)


def _collate(
    decoded: list[tuple[int, str, dict[str, torch.Tensor] | BrokenVideo]],
) -> tuple[dict[str, Any] | None, dict[int, BrokenVideo]]:
    """A batch of those that can be used, if any, and the others by place."""
    broken = {place: video for place, _, video in decoded if isinstance(video, BrokenVideo)}
    good = [
        {"places": place, "video_ids": video_id, **video}
        for place, video_id, video in decoded
        if not isinstance(video, BrokenVideo)
    ]
    return (default_collate(good) if good else None), broken
