"""Streaming of the frames on screen at many moments, in memory that doesn't grow with the video."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import av
import torch

from ..video_container_ts2net import MAX_PIXELS, Picture, TableError, VideoReader
from ..video_decoding_ts2net import (
    VideoInfo,
    decode_in_order,
    likely_num_frames,
    pictures_by_table,
    pictures_in_order,
    readers_with_tables,
    video_info,
)
from ..video_source_ts2net import VideoSource, open_source
from ..video_timing_ts2net import EPSILON, Timeline

# Of frames that are likely wanted, kept while the frames of a file without a table are counted.
_MAX_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class StreamedFrame:
    """A frame of a streamed video.

    Attributes:
        rgb: `(height, width, 3)`, uint8, as shown: square pixels, after rotation.
        moment: the requested moment, in seconds from the start of the file.
        timestamp: seconds from the start of the file at which the frame comes on screen.
        index: index of the frame in the video, in order of presentation.
        info: properties of the whole video, as far as they are known so far.
    """

    rgb: torch.Tensor
    moment: float
    timestamp: float
    index: int
    info: VideoInfo


def stream_video(
    source: VideoSource,
    moments: Callable[[float], Iterable[float]],
    *,
    num_threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[StreamedFrame]:
    """Decode the frames on screen at many moments, one after the other, in memory that doesn't grow with the video.

    The frames equal those that `decode_video` selects at the same seconds with the clock `"seconds"`. Before the first
    frame comes on screen, it counts as on screen.

    If a file is damaged, decoding continues after the last frame that is certain, with a warning. A file without any
    table of its frames is decoded twice, the first time only to count them. Once is enough if the header predicts
    the wanted frames correctly and they fit into 256 MiB.

    Args:
        source: same as for `decode_video`.
        moments: returns the wanted moments, in ascending order, given the duration of the video in seconds. Moments
            after the end are ignored. The function is called again if the duration has to be corrected; frames of
            moments that were yielded before are not yielded again.
        num_threads: CPU cores to use; by default torch's number of threads, which is one in a `DataLoader` worker.
        max_pixels: a video with more pixels per frame is refused before memory is allocated for it.

    Yields:
        One frame for each moment, so a frame that is on screen at several moments is yielded several times.

    Raises:
        VideoDecodingError: If the source is not a video, or none of its frames can be decoded.
        OSError: If the file can't be read.
    """
    threads = num_threads or torch.get_num_threads()
    done = -1.0  # seconds

    def wanted(timeline: Timeline) -> list[tuple[float, int]]:
        left = [moment for moment in moments(timeline.duration) if done < moment < timeline.duration - EPSILON]
        return list(zip(left, timeline.on_screen(left).tolist(), strict=True))

    with open_source(source) as file, ExitStack() as stack:
        for reader, table in readers_with_tables(VideoReader(file, max_pixels), stack):
            if table is None:
                continue
            pairs = wanted(table.timeline)
            try:
                pictures = pictures_by_table(reader, table, (index for _, index in pairs), threads)
                for frame in _streamed(pictures, pairs, table.timeline):
                    yield frame
                    done = frame.moment
            except (TableError, av.FFmpegError):
                continue
            return
        reader = stack.enter_context(reader.fresh())
        run = decode_in_order(reader, _few_likely_frames(reader, moments), threads, table)
        if run.damage:
            warnings.warn(f"{file.name}: {run.damage}", stacklevel=2)
        pairs = wanted(run.timeline)
        shown = run.shown_instead([index for _, index in pairs])
        pairs = [(moment, index) for (moment, _), index in zip(pairs, shown, strict=True)]
        indices = set(shown)
        if run.pictures.keys() >= indices:
            yield from _streamed(((index, run.pictures[index]) for index in sorted(indices)), pairs, run.timeline)
        else:
            again = stack.enter_context(reader.another())
            yield from _streamed(pictures_in_order(again, run, indices, threads), pairs, run.timeline)


def _streamed(
    pictures: Iterable[tuple[int, Picture]], pairs: list[tuple[float, int]], timeline: Timeline
) -> Iterator[StreamedFrame]:
    """Yield a frame for each pair of a moment and an index. The pictures are in the order of their indices."""
    waiting = deque(pairs)
    for index, picture in pictures:
        rgb = torch.from_numpy(picture.orientation.apply(picture.rgb))
        info = video_info(timeline, rgb)
        while waiting and waiting[0][1] == index:
            moment, _ = waiting.popleft()
            yield StreamedFrame(rgb, moment, round(float(timeline.times[index]), 6), index, info)


def _few_likely_frames(reader: VideoReader, moments: Callable[[float], Iterable[float]]) -> set[int]:
    """Predict the indices of the wanted frames from the header. Returns none if they would need too much memory."""
    count, fps = likely_num_frames(reader), reader.declared_fps
    if not count:
        return set()
    try:
        likely = {int((moment + EPSILON) * fps) for moment in moments(count / fps)}
    except ValueError:
        return set()
    width, height = reader.shown_size
    return likely if len(likely) * width * height * 3 <= _MAX_KEPT_BYTES else set()
