"""Decoding of selected frames of a video file. The result equals that of a decoder that starts at the beginning.

Notable here:
- If the container has a valid table of its frames, only the groups of pictures (GOPs) that hold a wanted frame are
  read, in parallel and each with its own decoder. Disposable frames, which no other frame refers to, are never
  decoded unless they are wanted.
- The table is checked against what is read. On any disagreement the next, more careful method is used: header index,
  then a scan of all packets, then decoding everything in order.
"""

import warnings
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import av
import numpy as np
import torch

from .video_container_ts2net import MAX_PIXELS, EntryPoint, Picture, TableError, VideoReader
from .video_sampling_ts2net import FrameSampling
from .video_source_ts2net import VideoDecodingError, VideoSource, open_source
from .video_tables_ts2net import FrameTable, table_from_index, table_from_packets
from .video_timing_ts2net import DEFAULT_FPS, NoTimesError, Timeline, complete_times


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a whole video.

    Attributes:
        num_frames: number of frames in the file that can be shown.
        fps: frames per second; the average if the frame rate varies.
        duration: seconds from the start of the file to the end of the last frame.
        width: width in pixels as shown: square pixels, after rotation.
        height: height in pixels as shown.
    """

    num_frames: int
    fps: float
    duration: float
    width: int
    height: int


@dataclass(frozen=True)
class DecodedVideo:
    """Selected frames of a video.

    Attributes:
        frames: `(frames, height, width, 3)`, uint8 RGB, as shown: square pixels, after rotation.
        timestamps: seconds from the start of the file at which each frame comes on screen.
        indices: index of each frame in the video, in order of presentation.
        info: properties of the whole video.
    """

    frames: torch.Tensor
    timestamps: list[float]
    indices: list[int]
    info: VideoInfo


def decode_video(
    source: VideoSource,
    sampling: FrameSampling | None = None,
    *,
    num_threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DecodedVideo:
    """Decode selected frames of a video, bit for bit as if decoded from the start.

    Seconds count from the start of the file, as in players. A truncated or damaged file is decoded as far as possible,
    with a warning. A frame that can't be decoded is replaced by the last decoded frame before it.

    Args:
        source: a path, the bytes of a file, a binary file object, or an address: `http(s)://`, `file://`, `hf://`.
        sampling: selection of frames; by default one per second, at most 12, spread evenly over the video.
        num_threads: CPU cores to use; by default torch's number of threads, which is one in a `DataLoader` worker.
        max_pixels: a video with more pixels per frame is refused before memory is allocated for it.

    Raises:
        VideoDecodingError: If the source is not a video, or none of its frames can be decoded.
        ValueError: If an argument is out of range, or the video ends before `start`.
        OSError: If the file can't be read.
    """
    sampling = sampling or FrameSampling()
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    threads = num_threads or torch.get_num_threads()

    with open_source(source) as file, ExitStack() as stack:

        def choose(timeline: Timeline) -> list[int]:
            try:
                return sampling.choose(timeline)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from None

        for reader, table in readers_with_tables(VideoReader(file, max_pixels), stack):
            if table is None:
                continue
            indices = choose(table.timeline)
            try:
                pictures = _decode_segments(reader, table, indices, threads)
            except TableError:
                continue
            return _assemble(pictures, indices, table.timeline)
        reader = stack.enter_context(reader.fresh())
        run = decode_in_order(reader, _likely_frames(reader, sampling), threads, table)
        if run.damage:
            warnings.warn(f"{file.name}: {run.damage}", stacklevel=2)
        indices = run.shown_instead(choose(run.timeline))
        missing = set(indices) - run.pictures.keys()
        if missing:
            with reader.another() as again:
                run.pictures.update(pictures_in_order(again, run, missing, threads))
        return _assemble(run.pictures, indices, run.timeline)


def readers_with_tables(reader: VideoReader, stack: ExitStack) -> Iterator[tuple[VideoReader, FrameTable | None]]:
    """Yield each possible table of a file with a reader, the cheapest table first. `stack` closes the readers."""
    stack.enter_context(reader)
    for find_table in (table_from_index, table_from_packets):
        reader = stack.enter_context(reader.fresh())
        yield reader, find_table(reader)


def _assemble(pictures: dict[int, Picture], indices: list[int], timeline: Timeline) -> DecodedVideo:
    stored = np.stack([pictures[index].rgb for index in indices])
    frames = torch.from_numpy(pictures[indices[0]].orientation.apply(stored))
    info = video_info(timeline, frames)
    return DecodedVideo(frames, [round(float(timeline.times[index]), 6) for index in indices], indices, info)


def video_info(timeline: Timeline, frames: torch.Tensor) -> VideoInfo:
    """Collect the properties of a video from its timeline and pixels `(..., height, width, 3)`."""
    height, width = frames.shape[-3:-1]
    return VideoInfo(len(timeline.times), timeline.fps, timeline.duration, width, height)


# ---------------------------------------------------------------------------------------------------------------------
# Decoding by a table


@dataclass(frozen=True)
class _Segment:
    """Wanted frames that are decoded from the same keyframe."""

    start: EntryPoint
    frames: list[int]


def pictures_by_table(
    reader: VideoReader, table: FrameTable, indices: Iterable[int], threads: int
) -> Iterator[tuple[int, Picture]]:
    """Decode frames in order, and yield each with its index as soon as the index is certain.

    Raises:
        TableError: If the file disagrees with the table.
        av.FFmpegError: If a frame can't be decoded.
    """
    reader.use_threads(threads)
    reader.refuse_damage()
    for segment in _segments(table, indices):
        yield from _decode_segment(reader, table, segment)


def _segments(table: FrameTable, indices: Iterable[int]) -> list[_Segment]:
    by_start: dict[EntryPoint, list[int]] = {}
    for index in sorted(set(indices)):
        by_start.setdefault(table.entry_point(index), []).append(index)
    return [_Segment(start, frames) for start, frames in by_start.items()]


def _decode_segments(reader: VideoReader, table: FrameTable, indices: list[int], threads: int) -> dict[int, Picture]:
    """Decode each wanted frame from the keyframe before it, with segments in parallel.

    Raises:
        TableError: If the file disagrees with the table.
    """
    segments = _segments(table, indices)
    # The longest segments come first, so that no worker has to decode one alone at the end. For the same reason there
    # is one worker more than cores, as in FFmpeg.
    waiting = deque(sorted(segments, key=lambda segment: segment.start.index - segment.frames[-1]))
    workers = min(len(segments), threads + 1) if threads > 1 else 1
    pictures: dict[int, Picture] = {}

    def work(reader: VideoReader) -> None:
        reader.use_threads(max(threads // workers, 1))
        reader.refuse_damage()
        while waiting:
            try:
                segment = waiting.popleft()
            except IndexError:  # another worker was faster
                return
            try:
                pictures.update(_decode_segment(reader, table, segment))
            except (TableError, av.FFmpegError) as error:
                waiting.clear()
                raise TableError from error

    def work_with_another_reader() -> None:
        with reader.another() as another:
            work(another)

    if workers == 1:
        work(reader)
        return pictures
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(work, reader), *(pool.submit(work_with_another_reader) for _ in range(workers - 1))]
    for job in jobs:
        job.result()
    return pictures


def _decode_segment(reader: VideoReader, table: FrameTable, segment: _Segment) -> Iterator[tuple[int, Picture]]:
    """Yield the wanted frames of a segment in order, each when enough was read to be certain of its index.

    Raises:
        TableError: If the file disagrees with the table.
    """
    wanted = {int(table.pts[frame]): frame for frame in segment.frames}
    last = max(wanted)
    missing = set(wanted)
    uncertain = deque(sorted(wanted))
    pictures: dict[int, Picture] = {}  # decoded and not yet yielded, by timestamp
    shown: list[int] = []  # timestamps of the packets from the keyframe on, in order of presentation

    def collect(frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            if frame.is_corrupt:  # frames that refer to it may be damaged too, and differently if frames are skipped
                raise TableError
            if frame.pts in wanted:
                pictures[frame.pts] = reader.picture(frame)

    def has_its_index(pts: int) -> bool:
        return segment.start.index + bisect_left(shown, pts) == wanted[pts]

    references = reader.references()
    for packet in reader.packets_from(segment.start):
        if packet.pts is None or references.lack_one_before(packet):
            raise TableError
        if not packet.is_discard:
            insort(shown, packet.pts)
        if missing:
            # A frame depends only on frames decoded before it: after the last wanted one, packets are only counted.
            if packet.pts in missing or not reader.is_disposable(packet):
                collect(reader.decoder.decode(packet))
            missing.discard(packet.pts)
        elif packet.dts is not None and packet.dts > last:
            break  # all frames that are shown before the last wanted frame have been read
        # All frames that are shown before a frame come before the first packet that is decoded after it is shown.
        while uncertain and packet.dts is not None and packet.dts > uncertain[0] in pictures:
            pts = uncertain.popleft()
            if not has_its_index(pts):
                raise TableError
            yield wanted[pts], pictures.pop(pts)
    collect(reader.decoder.decode(None))

    if not all(has_its_index(pts) for pts in wanted) or not pictures.keys() >= set(uncertain):
        raise TableError
    for pts in uncertain:
        yield wanted[pts], pictures[pts]


# ---------------------------------------------------------------------------------------------------------------------
# Decoding in order


@dataclass(frozen=True)
class Run:
    """Result of decoding a file from start to end.

    Attributes:
        timeline: timeline of the video.
        decoded: index of each frame that can be decoded, in the decoder's order. In a damaged file some frames are
            missing, and some may come late.
        pictures: kept frames, by index.
        damage: description of the damage, or None.
    """

    timeline: Timeline
    decoded: np.ndarray
    pictures: dict[int, Picture]
    damage: str | None

    def shown_instead(self, indices: list[int]) -> list[int]:
        """Replace each frame that can't be decoded by the frame that stays on screen instead."""
        decoded = np.sort(self.decoded)
        positions = np.searchsorted(decoded, indices, side="right") - 1
        return decoded[np.maximum(positions, 0)].tolist()


def decode_in_order(reader: VideoReader, keep: Container[int], threads: int, table: FrameTable | None = None) -> Run:
    """Decode a whole file, which is the only way to count its frames without a table.

    Args:
        reader: reader of the file, at its start.
        keep: indices of frames to keep.
        threads: CPU cores to use. A damaged file is decoded again with one core, so that the result is deterministic.
        table: the file's table, with which the decoder disagreed. It shows which frames of a damaged file are missing.

    Raises:
        VideoDecodingError: If none of the frames can be decoded.
    """
    run = _decode_all(reader, keep, threads, table)
    if run.damage and threads > 1:
        with reader.another() as again:
            run = _decode_all(again, keep, 1, table)
    return run


def pictures_in_order(
    reader: VideoReader, run: Run, indices: Container[int], threads: int
) -> Iterator[tuple[int, Picture]]:
    """Decode frames again and yield them in the order of their indices, skipping what can't be decoded.

    Args:
        reader: reader of the file, at its start.
        run: result of the first decoding.
        indices: indices of the wanted frames, which can be decoded.
        threads: CPU cores to use.
    """
    reader.use_threads(1 if run.damage else threads)
    decoded = run.decoded.tolist()
    left = sum(index in indices for index in decoded)
    # The lowest index that is still to come after each frame.
    to_come = [*np.minimum.accumulate(run.decoded[:0:-1])[::-1].tolist(), len(run.timeline.times)]
    held: dict[int, Picture] = {}
    with closing(reader.frames()) as frames:
        for index, following, frame in zip(decoded, to_come, frames, strict=False):
            if index in indices:
                held[index] = reader.picture(frame)
            for ready in sorted(index for index in held if index < following):
                yield ready, held.pop(ready)
                left -= 1
            if not left:
                return


def _decode_all(reader: VideoReader, keep: Container[int], threads: int, table: FrameTable | None) -> Run:
    """Decode the whole file, skipping what can't be decoded, and convert the frames to keep."""
    reader.use_threads(threads)
    pictures: dict[int, Picture] = {}
    timestamps: list[int | None] = []
    seconds: list[float] = []
    is_cut_off = reader.is_cut_off()
    goes_backwards = False
    ticks = 0  # duration of the last frame
    for frame in reader.frames():
        if len(timestamps) in keep:
            pictures[len(timestamps)] = reader.picture(frame)
        timestamps.append(frame.pts)
        ticks = frame.duration
        if not goes_backwards:
            try:
                seconds.append(reader.clock.seconds(frame.pts))
            except NoTimesError:
                goes_backwards = True
    count = len(timestamps)
    if not count:
        raise VideoDecodingError(f"{reader.file.name}: none of its frames can be decoded ({reader.describe()})")
    times = None if goes_backwards else complete_times(np.array(seconds))
    damage = damage_of(reader, count) if reader.met_damage or is_cut_off else None
    pts = np.array([-1 if timestamp is None else timestamp for timestamp in timestamps], dtype=np.int64)
    if damage and table and len(np.unique(pts)) == count and np.isin(pts, table.pts).all():
        decoded = np.searchsorted(table.pts, pts)
        pictures = {int(decoded[position]): picture for position, picture in pictures.items()}
        return Run(table.timeline, decoded, pictures, damage)
    if times is not None:
        timeline = Timeline.of(times, reader.declared_fps, reader.last_duration(timestamps[-1], ticks, is_cut_off))
    else:
        timeline = Timeline.even(count, reader.declared_fps or DEFAULT_FPS)
    return Run(timeline, np.arange(count), pictures, damage)


def damage_of(reader: VideoReader, num_frames: int) -> str:
    """Describe a damaged file of which `num_frames` frames can be decoded."""
    promised = f" of the {reader.stream.frames} that its header promises" if reader.stream.frames else ""
    return f"damaged or cut off; {num_frames} frames{promised} could be decoded"


def _likely_frames(reader: VideoReader, sampling: FrameSampling) -> Container[int]:
    """Estimate the wanted frames from the numbers in the header."""
    count = likely_num_frames(reader)
    try:
        indices = sampling.likely_indices(count, reader.declared_fps) if count else ()
    except ValueError:
        return ()
    return indices if isinstance(indices, range) else set(indices)


def likely_num_frames(reader: VideoReader) -> int:
    """Estimate the number of frames from the numbers in the header. Returns 0 if they can't be right."""
    fps, seconds = reader.declared_fps, (reader.container.duration or 0) / av.time_base
    count = reader.stream.frames or int(seconds * fps)
    return count if fps and 0 < count <= reader.file.size else 0  # no frame is smaller than a byte
