"""A video as a stream of frames: those on screen at many moments, in memory that doesn't grow with the video."""

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

_MAX_KEPT_BYTES = 2**28  # of frames that may turn out to be wanted, while a stream without a table is counted


@dataclass(frozen=True)
class StreamedFrame:
    """A frame of a video that is streamed.

    Attributes:
        rgb: `(height, width, 3)`, uint8, as shown: pixels made square, rotation applied.
        moment: the seconds into the file that were asked for.
        timestamp: the seconds into the file at which the frame comes on screen.
        index: its index in the video, in order of presentation.
        info: the video as a whole, as far as is known by now.
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
    """Decodes the frames on screen at many moments, one after the other, in memory that doesn't grow with the video.

    They are the frames that `decode_video` takes of the same seconds by the clock `"seconds"`. The first frame counts
    as on screen before it comes.

    A damaged file is gone on with after the last frame that is certain, with a warning. A file without any table of
    its frames is decoded twice, the first time only to count them, unless it is short.

    Args:
        source: as for `decode_video`.
        moments: returns the moments that are wanted, in ascending order, for a duration in seconds. Those past the end
            are left out. It is called again when the duration turns out to be another; what was yielded by then
            isn't yielded again.
        num_threads: CPU cores to use; by default as many as torch does, which is one in a `DataLoader` worker.
        max_pixels: a video with more pixels a frame is refused, before any memory is taken for it.

    Yields:
        A frame for each moment. One that is on screen at several of them comes as often.

    Raises:
        VideoDecodingError: not a video, or none of its frames can be decoded.
        OSError: the file can't be read.
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
    """A frame for each pair of a moment and an index, of pictures that come in the order of their indices."""
    waiting = deque(pairs)
    for index, picture in pictures:
        rgb = torch.from_numpy(picture.orientation.apply(picture.rgb))
        info = video_info(timeline, rgb)
        while waiting and waiting[0][1] == index:
            moment, _ = waiting.popleft()
            yield StreamedFrame(rgb, moment, round(float(timeline.times[index]), 6), index, info)


def _few_likely_frames(reader: VideoReader, moments: Callable[[float], Iterable[float]]) -> set[int]:
    """The frames on screen at certain moments if the header's figures are right; none if they would be many."""
    count, fps = likely_num_frames(reader), reader.declared_fps
    if not count:
        return set()
    try:
        likely = {int((moment + EPSILON) * fps) for moment in moments(count / fps)}
    except ValueError:
        return set()
    width, height = reader.shown_size
    return likely if len(likely) * width * height * 3 <= _MAX_KEPT_BYTES else set()
