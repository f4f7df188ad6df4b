"""From any video file to the few frames a model wants: exactly those a decoder gives that starts at the beginning.

What is notable here:
- A video is opened by its bytes and only as a file that stands alone: a playlist, which names other files or
  addresses, is refused before anything it names is touched.
- Where the container has a trustworthy index, only the groups of pictures (GOPs) that hold a wanted frame are read,
  each by a decoder of its own, side by side; frames that no other frame refers to never reach the decoder.
- Nothing an index promises is taken on trust. What is read is checked against it, and on any disagreement the next,
  more careful way is taken: header index, then a scan of all packets, then decoding everything in order.
"""

import re
import warnings
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
from av.stream import Discard, Disposition
from av.video import VideoStream
from av.video.reformatter import VideoReformatter

from .video_bitstream_ts2net import Bitstream
from .video_sampling_ts2net import check_sampling, sample_frame_indices
from .video_source_ts2net import FileView, SharedFile, VideoDecodingError, VideoSource, open_source

MAX_PIXELS = 2**26  # a frame: 8192 x 8192, twice 8K television
_MIN_PIXELS_FOR_THREADS = 2**16  # measured: two threads are slower than one at 176x144, faster at 320x240

# Containers that hold their own data. All that may name another file or address (hls, dash, concat, image2, sdp, ...)
# are left out.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,ivf,nut,mxf,gxf,wtv,rm,dv,nsv,"
    "h261,h263,h264,hevc,vvc,m4v,obu,av1,mjpeg,dirac,vc1,cavsvideo,yuv4mpegpipe"
)
_MOV, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
# Codecs whose keyframes (for H.264 and HEVC, after a look at the bytes) let decoding start afresh.
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd"}
# An HEVC keyframe may be followed by pictures shown before it. No level of the standard allows more of them.
_MAX_LEADING_PICTURES = 16

_MAX_KEPT_BYTES = 2**28  # of frames that may turn out to be wanted, while a stream without a table is counted
_DEFAULT_FPS = 25.0  # where a file states neither times nor a rate; FFmpeg's choice as well

# Which frames are wanted of a video of so many frames at so many frames a second.
_Sample = Callable[[int, float], list[int]]


@dataclass(frozen=True)
class VideoInfo:
    """A video as a whole.

    Attributes:
        num_frames: frames in the file that can be shown.
        fps: frames a second; the average where the frame rate varies.
        duration: seconds.
        width: pixels, as shown (after rotation).
        height: pixels, as shown (after rotation).
    """

    num_frames: int
    fps: float
    duration: float
    width: int
    height: int


@dataclass(frozen=True)
class DecodedVideo:
    """Chosen frames of a video.

    Attributes:
        frames: `(frames, height, width, 3)`, uint8 RGB, rotation applied.
        timestamps: for each frame, the seconds from the start of the video at which it comes on screen.
        indices: for each frame, its place in the video, counted from 0 in the order of presentation.
        info: the video as a whole.
    """

    frames: torch.Tensor
    timestamps: list[float]
    indices: list[int]
    info: VideoInfo


# ---------------------------------------------------------------------------------------------------------------------
# The whole way


def decode_video(
    source: VideoSource,
    *,
    num_frames: int = 12,
    frames_per_second: float = 1.0,
    strategy: str = "uniform",
    start: float | None = None,
    end: float | None = None,
    num_threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DecodedVideo:
    """Decodes the frames of a video that `sample_frame_indices` chooses, bit for bit as if decoded from the start.

    Where the frame rate varies, an index stands for the moment `index / average fps`, and the frame on screen at that
    moment is taken: a slide show repeats its slides, as a viewer sees it. A file that is cut off or damaged gives what
    can be decoded of it, with a warning.

    Args:
        source: a path, the bytes of a file, a binary file object, an `http(s)://` address or an `hf://` path.
        num_frames: see `sample_frame_indices`, as for the next four.
        frames_per_second: candidates a second.
        strategy: `"uniform"`, `"first"` or `"last"`.
        start: seconds.
        end: seconds.
        num_threads: CPU cores to use; by default as many as torch does, which is one in a `DataLoader` worker.
        max_pixels: a video with more pixels a frame is refused, before any memory is taken for it.

    Raises:
        VideoDecodingError: not a video, or none of its frames can be decoded.
        ValueError: an argument is out of range, or the video ends before `start`.
        OSError: the file can't be read.
    """
    check_sampling(num_frames, frames_per_second, strategy, start, end)
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    threads = num_threads or torch.get_num_threads()

    with open_source(source) as file, ExitStack() as stack:

        def sample(count: int, fps: float) -> list[int]:
            try:
                return sample_frame_indices(count, fps, num_frames, frames_per_second, strategy, start, end)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from None

        reader = stack.enter_context(_Reader(file, max_pixels))
        for table_of in (_table_from_index, _table_from_packets):
            reader = stack.enter_context(reader.fresh())
            table = table_of(reader)
            if table is None:
                continue
            indices = table.clock.choose(sample)
            try:
                pictures = _decode_segments(reader, table, indices, threads)
            except _TableError:
                continue
            return _assemble(pictures, indices, table.clock, reader)
        reader = stack.enter_context(reader.fresh())
        clock, pictures = _decode_in_order(reader, sample, threads)
        return _assemble(pictures, clock.choose(sample), clock, reader)


@dataclass(frozen=True)
class StreamedFrame:
    """A frame of a video that is streamed.

    Attributes:
        rgb: `(height, width, 3)`, uint8, rotation applied.
        moment: the seconds into the video that were asked for.
        timestamp: the seconds into the video at which the frame comes on screen.
        index: its place in the video, counted from 0 in the order of presentation.
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

    Where the frame rate is a whole number, these are the frames that `decode_video` takes of the same seconds. Where
    it isn't, seconds are the clock's here, and the moments of a film are right at its end too.

    A file that turns out to be damaged is gone on with after the last frame that is certain, with a warning. A file
    without any table of its frames is decoded twice, the first time only to count them, unless it is short.

    Args:
        source: as for `decode_video`.
        moments: gives the moments that are wanted, in ascending order, when it is told the duration in seconds. Those
            past the end are left out. It is called again when the duration turns out to be another, and what has
            been given by then is not given again.
        num_threads: CPU cores to use; by default as many as torch does, which is one in a `DataLoader` worker.
        max_pixels: a video with more pixels a frame is refused, before any memory is taken for it.

    Yields:
        A frame for each moment. One that is on screen at several of them comes as often.

    Raises:
        VideoDecodingError: not a video, or none of its frames can be decoded.
        OSError: the file can't be read.
    """
    threads = num_threads or torch.get_num_threads()
    given = -1.0  # seconds

    def wanted(clock: _Clock) -> list[tuple[float, int]]:
        return [pair for pair in clock.on_screen(moments(clock.duration)) if pair[0] > given]

    with open_source(source) as file, ExitStack() as stack:
        reader = stack.enter_context(_Reader(file, max_pixels))
        for table_of in (_table_from_index, _table_from_packets):
            reader = stack.enter_context(reader.fresh())
            table = table_of(reader)
            if table is None:
                continue
            pairs = wanted(table.clock)
            try:
                for frame in _streamed(_table_pictures(reader, table, pairs, threads), pairs, table.clock):
                    yield frame
                    given = frame.moment
            except (_TableError, av.FFmpegError):
                continue
            return
        reader = stack.enter_context(reader.fresh())
        run = _count_in_order(reader, _few_likely_frames(reader, moments), threads)
        pairs = wanted(run.clock)
        if run.pictures.keys() >= {index for _, index in pairs}:
            pictures: Iterable[tuple[int, _Picture]] = sorted(run.pictures.items(), key=lambda item: item[0])
        else:
            again = stack.enter_context(reader.another())
            pictures = _pictures_in_order(again, {index for _, index in pairs}, 1 if run.damaged else threads)
        yield from _streamed(pictures, pairs, run.clock)


def _streamed(
    pictures: Iterable[tuple[int, "_Picture"]], pairs: list[tuple[float, int]], clock: "_Clock"
) -> Iterator[StreamedFrame]:
    """A frame for each pair of a moment and an index, of pictures that come in the order of their indices."""
    waiting = deque(pairs)
    for index, picture in pictures:
        rgb = _oriented(torch.from_numpy(picture.rgb), picture.orientation)
        info = VideoInfo(len(clock.times), clock.fps, clock.duration, rgb.shape[1], rgb.shape[0])
        while waiting and waiting[0][1] == index:
            moment, _ = waiting.popleft()
            yield StreamedFrame(rgb, moment, round(float(clock.times[index]), 6), index, info)


@dataclass(frozen=True)
class _Picture:
    """A decoded frame: `(height, width, 3)` RGB as stored, and how it is to be turned for showing."""

    rgb: np.ndarray
    orientation: tuple[bool, bool, bool]


def _assemble(pictures: dict[int, _Picture], indices: list[int], clock: "_Clock", reader: "_Reader") -> DecodedVideo:
    stored = torch.from_numpy(np.stack([pictures[index].rgb for index in indices]))
    frames = _oriented(stored, pictures[indices[0]].orientation)
    info = VideoInfo(len(clock.times), clock.fps, clock.duration, frames.shape[2], frames.shape[1])
    return DecodedVideo(frames, [round(float(clock.times[index]), 6) for index in indices], indices, info)


def _oriented(rgb: torch.Tensor, orientation: tuple[bool, bool, bool]) -> torch.Tensor:
    """Turns pixels `(..., height, width, 3)` for showing."""
    transpose, flip_rows, flip_columns = orientation
    if transpose:
        rgb = rgb.transpose(-3, -2)
    flipped = [axis for axis, flip in ((-3, flip_rows), (-2, flip_columns)) if flip]
    if flipped:
        rgb = rgb.flip(flipped)
    return rgb.contiguous()


# ---------------------------------------------------------------------------------------------------------------------
# One open container


class _Reader:
    """An open container and the decoder of its best video stream."""

    def __init__(self, file: SharedFile, max_pixels: int) -> None:
        self.file = file
        self.max_pixels = max_pixels
        self._was_read = False
        options = {
            "format_whitelist": _CONTAINERS,
            "protocol_whitelist": "none",
            "max_pixels": str(max_pixels),  # for the decoders that look into the streams
        }
        try:
            self.container = av.open(FileView(file), "r", options=options, metadata_errors="replace")
        except av.ArgumentError as error:
            message = f"{file.name}: not a video file that stands alone; playlists and image lists are refused"
            raise VideoDecodingError(message) from error
        except (av.FFmpegError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise VideoDecodingError(f"{file.name}: not a video that can be read ({reason})") from error
        try:
            self.stream = self._best_video_stream()
        except VideoDecodingError:
            self.container.close()
            raise
        for stream in self.container.streams:
            if stream is not self.stream:
                stream.discard = Discard.all
        self.time_base = float(self.stream.time_base or 0)  # seconds
        self.decoder = self.stream.codec_context
        self.decoder.options = {"max_pixels": str(max_pixels)}
        self.decoder.thread_count = 1
        self.codec = self.decoder.codec.canonical_name
        self.seeks_by_dts = self.container.format.name == _MOV
        self.bitstream = Bitstream(self.codec, self.decoder.extradata or b"")
        self._reformatter = VideoReformatter()
        self._size = self.stream.width, self.stream.height

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.container.close()

    def another(self) -> "_Reader":
        """A second reader of the same file, at its start."""
        return _Reader(self.file, self.max_pixels)

    def fresh(self) -> "_Reader":
        """A reader at the start of the file: this one, unless it has been read from."""
        return self.another() if self._was_read else self

    def use_threads(self, count: int) -> None:
        """Decodes several frames at a time, where they aren't so small that handing them over costs more.

        To be called before the first frame.
        """
        width, height = self._size
        count = count if width * height >= _MIN_PIXELS_FOR_THREADS else 1
        self.decoder.thread_count = count
        self.decoder.thread_type = "FRAME" if count > 1 else "NONE"

    def packets(self) -> Iterator[av.Packet]:
        """The packets of the video stream from here to the end, in the order of decoding."""
        self._was_read = True
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except IndexError:
            # After the last packet PyAV looks up all streams, and trips over one that turned up on the way.
            return

    def packets_from(self, start: "_EntryPoint") -> Iterator[av.Packet]:
        """The packets from a keyframe on.

        Raises:
            _TableError: there is no such keyframe, or decoding can't start there.
        """
        self.container.seek(start.timestamp, stream=self.stream)
        packets = self.packets()
        for packet in packets:
            timestamp = packet.dts if self.seeks_by_dts else packet.pts
            if timestamp is None or timestamp >= start.timestamp:
                break  # a seek may land before the keyframe, which costs only a little time
        else:
            raise _TableError
        if timestamp != start.timestamp or not self.bitstream.is_entry_point(packet):
            raise _TableError
        yield packet
        yield from packets

    def frames(self) -> Generator[av.VideoFrame | None, None, None]:
        """All frames; None stands for a packet that can't be decoded or the place where the file breaks off."""
        packets = self.packets()
        more = True
        while more:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packet = None
                yield None
            more = packet is not None
            try:
                yield from self.decoder.decode(packet)  # None makes it give what it has held back
            except av.FFmpegError:
                yield None

    def picture(self, frame: av.VideoFrame) -> _Picture:
        """Converts a frame to RGB. One of another size (a change within the stream) is scaled to the stream's."""
        width, height = self._size
        try:
            rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        except av.FFmpegError as error:
            message = f"{self.file.name}: its {frame.format.name} frames can't be converted to RGB"
            raise VideoDecodingError(message) from error
        return _Picture(rgb.to_ndarray(), _orientation(frame))

    def _best_video_stream(self) -> VideoStream:
        name = self.file.name
        best = self.container.streams.best("video")
        streams = sorted(self.container.streams.video, key=lambda stream: stream is not best)
        stream = next((s for s in streams if not s.disposition & Disposition.attached_pic), None)
        if stream is None:
            raise VideoDecodingError(f"{name}: no video stream, found {_describe(self.container)}")
        if stream.codec_context is None:
            raise VideoDecodingError(f"{name}: no decoder for its video stream, found {_describe(self.container)}")
        width, height = stream.width, stream.height
        if width * height > self.max_pixels:
            raise VideoDecodingError(f"{name}: frames of {width}x{height}, expected at most {self.max_pixels} pixels")
        if width < 1 or height < 1:
            raise VideoDecodingError(f"{name}: frames of {width}x{height}, expected at least one pixel")
        return stream


def _describe(container: Any) -> str:
    kinds = [stream.type for stream in container.streams]
    return f"{container.format.name} with {', '.join(kinds) or 'no stream'}"


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How to turn a frame for showing: swap rows and columns, then flip rows, then flip columns.

    The display matrix is rounded to the nearest of the eight that map a pixel grid to itself.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype="=i4").tolist()  # x' = a x + c y,  y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


# ---------------------------------------------------------------------------------------------------------------------
# When each frame is shown


class _TableError(Exception):
    """What was read disagrees with the table."""


@dataclass(frozen=True)
class _Clock:
    """When each frame comes on screen, in seconds from the first, and the video's rate as a whole."""

    times: np.ndarray
    fps: float
    duration: float
    constant: bool

    @staticmethod
    def of(times: np.ndarray, declared_fps: float, last_seconds: float) -> "_Clock":
        """The frame rate is constant when each frame starts within half a frame of its place on an even grid."""
        last = len(times) - 1
        period = times[-1] / last if last else last_seconds or 1 / (declared_fps or 1)
        constant = bool(np.abs(times - np.arange(last + 1) * period).max() < period / 2)
        duration = round(float(times[-1] + (last_seconds or period)), 6)
        if not constant:
            return _Clock(times, len(times) / duration, duration, False)
        # Times may be rounded (Matroska's to a millisecond): the declared rate is better, as long as it keeps step.
        # Otherwise four digits are as many as such times bear out, and 24.9998 must not count as 24 a second.
        keeps_step = declared_fps > 0 and abs(times[-1] * declared_fps - last) < 0.5
        return _Clock(times, declared_fps if keeps_step else float(f"{1 / period:.4g}"), duration, True)

    def choose(self, sample: _Sample) -> list[int]:
        """The wanted frames: those on screen at the moments `index / fps` of the indices sampled."""
        indices = sample(len(self.times), self.fps)
        if self.constant:
            return indices
        moments = np.asarray(indices) / self.fps + 1e-6
        return (np.searchsorted(self.times, moments, side="right") - 1).tolist()

    def on_screen(self, moments: Iterable[float]) -> list[tuple[float, int]]:
        """Each moment with the frame that is on screen then, but for those past the end of the video."""
        if self.constant:
            pairs = [(moment, int(moment * self.fps + 1e-6)) for moment in moments]
            return [(moment, index) for moment, index in pairs if index < len(self.times)]
        seconds = np.array([moment for moment in moments if moment < self.duration], dtype=np.float64)
        indices = np.searchsorted(self.times, seconds + 1e-6, side="right") - 1
        return list(zip(seconds.tolist(), indices.tolist(), strict=True))


@dataclass(frozen=True)
class _EntryPoint:
    """A keyframe: how many frames are decoded before it, and the timestamp that seeking and checking go by."""

    index: int
    timestamp: int


@dataclass(frozen=True)
class _Table:
    """Every frame's timestamp in the order of presentation, and where decoding may start for a given frame."""

    pts: np.ndarray
    clock: _Clock
    entry_point: Callable[[int], _EntryPoint]


def _declared_fps(stream: Any) -> float:
    return float(stream.guessed_rate or stream.average_rate or 0)


def _clock_from_pts(reader: _Reader, pts: np.ndarray, last_duration: int) -> _Clock:
    times = (pts - pts[0]) * reader.time_base
    return _Clock.of(times, _declared_fps(reader.stream), last_duration * reader.time_base)


def _table_from_index(reader: _Reader) -> _Table | None:
    """The table without reading any frame, from the index in an MP4 header.

    The index has decoding times. Evenly spaced, or in a stream that never reorders frames, these are the presentation
    times but for the offset.
    """
    stream, index = reader.stream, reader.stream.index_entries
    count = len(index)
    if reader.container.format.name != _MOV or reader.codec not in _SEEKABLE_CODECS:
        return None
    if (
        count == 0
        or count != stream.frames
        or stream.start_time is None
        or index[0].is_discard
        or index[-1].is_discard
    ):
        return None
    first, span = index[0].timestamp, index[-1].timestamp - index[0].timestamp
    step = index[1].timestamp - first if count > 1 else stream.duration or 1
    rate = step * reader.time_base * float(stream.average_rate or 0)
    if step > 0 and span == (count - 1) * step and abs(rate - 1) < 1e-3:
        pts = stream.start_time + step * np.arange(count, dtype=np.int64)
    elif reader.decoder.reorder_depth == 0:
        pts = np.array([entry.timestamp for entry in index], dtype=np.int64) - first + stream.start_time
        step = max((stream.duration or 0) - span, 0)
    else:
        return None
    if (np.diff(pts) <= 0).any():
        return None

    def entry_point(frame: int) -> _EntryPoint:
        before = max(frame - _MAX_LEADING_PICTURES, 0) if reader.codec == "hevc" else frame
        key = index.search_timestamp(index[before].timestamp)
        if key < 0:
            raise _TableError
        return _EntryPoint(key, index[key].timestamp)

    return _Table(pts, _clock_from_pts(reader, pts, step), entry_point)


def _table_from_packets(reader: _Reader) -> _Table | None:
    """The table by reading every packet, without decoding any."""
    if reader.container.format.name not in (_MOV, _MATROSKA) or reader.codec not in _SEEKABLE_CODECS:
        return None
    shown: list[int] = []
    entry_points: list[tuple[int, _EntryPoint]] = []  # with the presentation time of each
    last_duration = 0
    try:
        for packet in reader.packets():
            timestamp = packet.dts if reader.seeks_by_dts else packet.pts
            if packet.pts is None or timestamp is None or packet.is_corrupt:
                return None
            if reader.bitstream.is_entry_point(packet):
                entry_points.append((packet.pts, _EntryPoint(len(shown), timestamp)))
            if not packet.is_discard:
                shown.append(packet.pts)
                last_duration = packet.duration or 0
    except av.FFmpegError:
        return None
    pts = np.sort(np.array(shown, dtype=np.int64))
    if len(pts) == 0 or (np.diff(pts) <= 0).any():
        return None
    clock = _clock_from_pts(reader, pts, last_duration)
    if _is_cut_off(reader, clock):
        return None
    entry_points.sort(key=lambda item: item[0])
    starts = [start for start, _ in entry_points]

    def entry_point(frame: int) -> _EntryPoint:
        place = bisect_left(starts, pts[frame] + 1) - 1
        if place < 0:
            raise _TableError
        return entry_points[place][1]

    return _Table(pts, clock, entry_point)


# ---------------------------------------------------------------------------------------------------------------------
# Decoding what is wanted


@dataclass(frozen=True)
class _Segment:
    """Frames that are decoded from the same keyframe on."""

    start: _EntryPoint
    frames: list[int]


def _segments(table: _Table, indices: Iterable[int]) -> list[_Segment]:
    by_start: dict[_EntryPoint, list[int]] = {}
    for index in sorted(set(indices)):
        by_start.setdefault(table.entry_point(index), []).append(index)
    return [_Segment(start, frames) for start, frames in by_start.items()]


def _table_pictures(
    reader: _Reader, table: _Table, pairs: list[tuple[float, int]], threads: int
) -> Iterator[tuple[int, _Picture]]:
    """The pictures of all indices in order, each as soon as it is certain."""
    reader.use_threads(threads)
    for segment in _segments(table, (index for _, index in pairs)):
        yield from _decode_segment(reader, table, segment)


def _decode_segments(reader: _Reader, table: _Table, indices: list[int], threads: int) -> dict[int, _Picture]:
    """Decodes each wanted frame from the keyframe before it, segments side by side.

    Raises:
        _TableError: the file isn't what the table says.
    """
    segments = _segments(table, indices)
    # The longest first, so that no worker is left with it at the end. For the same reason there is one worker more
    # than cores, as FFmpeg has it.
    waiting = deque(sorted(segments, key=lambda segment: segment.start.index - segment.frames[-1]))
    workers = min(len(segments), threads + 1) if threads > 1 else 1
    pictures: dict[int, _Picture] = {}

    def work(reader: _Reader) -> None:
        reader.use_threads(max(threads // workers, 1))
        while waiting:
            try:
                segment = waiting.popleft()
            except IndexError:  # another worker was faster
                return
            try:
                pictures.update(_decode_segment(reader, table, segment))
            except (_TableError, av.FFmpegError) as error:
                waiting.clear()
                raise _TableError from error

    def work_with_another_reader() -> None:
        with reader.another() as own:
            work(own)

    if workers == 1:
        work(reader)
        return pictures
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(work, reader), *(pool.submit(work_with_another_reader) for _ in range(workers - 1))]
    for job in jobs:
        job.result()
    return pictures


def _decode_segment(reader: _Reader, table: _Table, segment: _Segment) -> Iterator[tuple[int, _Picture]]:
    """The wanted frames of a segment in order, each once enough was read to be certain which frame it is.

    Raises:
        _TableError: the file isn't what the table says.
    """
    wanted = {int(table.pts[frame]): frame for frame in segment.frames}
    last = max(wanted)
    missing = set(wanted)
    uncertain = deque(sorted(wanted))
    pictures: dict[int, _Picture] = {}  # decoded and not yet given, by timestamp
    shown: list[int] = []  # timestamps of the packets from the keyframe on, in the order of presentation

    def collect(frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            if frame.pts in wanted:
                if frame.is_corrupt:
                    raise _TableError
                pictures[frame.pts] = reader.picture(frame)

    def is_in_place(pts: int) -> bool:
        return segment.start.index + bisect_left(shown, pts) == wanted[pts]

    for packet in reader.packets_from(segment.start):
        if packet.pts is None:
            raise _TableError
        if not packet.is_discard:
            insort(shown, packet.pts)
        if missing:
            # A frame depends on nothing that is decoded after it: past the last wanted one, packets are only counted.
            if packet.pts in missing or not reader.bitstream.is_disposable(packet):
                collect(reader.decoder.decode(packet))
            missing.discard(packet.pts)
        elif packet.dts is not None and packet.dts > last:
            break  # whatever is shown before the last wanted frame has been read
        # Whatever is shown before a frame is read before a packet that is decoded after the frame is shown.
        while uncertain and packet.dts is not None and packet.dts > uncertain[0] in pictures:
            pts = uncertain.popleft()
            if not is_in_place(pts):
                raise _TableError
            yield wanted[pts], pictures.pop(pts)
    collect(reader.decoder.decode(None))

    if not all(is_in_place(pts) for pts in wanted) or not pictures.keys() >= set(uncertain):
        raise _TableError
    for pts in uncertain:
        yield wanted[pts], pictures[pts]


@dataclass(frozen=True)
class _Run:
    """What decoding a file from start to end gave."""

    clock: _Clock
    pictures: dict[int, _Picture]
    damaged: bool


def _decode_in_order(reader: _Reader, sample: _Sample, threads: int) -> tuple[_Clock, dict[int, _Picture]]:
    """Decodes everything: how many frames there are shows only then.

    While they are counted, those are kept that are wanted if the header's figures are right; if they are wrong, a
    second run fetches the others.
    """
    run = _count_in_order(reader, _likely_frames(reader, sample), threads)
    indices = set(run.clock.choose(sample))
    if run.pictures.keys() >= indices:
        return run.clock, run.pictures
    with reader.another() as again:
        return run.clock, dict(_pictures_in_order(again, indices, 1 if run.damaged else threads))


def _count_in_order(reader: _Reader, keep: set[int], threads: int) -> _Run:
    """Decodes everything, with one thread if the file is damaged, for then the result is always the same."""
    run = _decode_all(reader, keep, threads)
    if run.damaged:
        with reader.another() as again:
            run = _decode_all(again, set(run.pictures), threads=1)
    count, promised = len(run.clock.times), reader.stream.frames
    if run.damaged or promised > count or _is_cut_off(reader, run.clock):
        header = f" of the {promised} that its header promises" if promised else ""
        warnings.warn(f"{reader.file.name}: damaged or cut off; {count} frames{header} could be decoded", stacklevel=4)
    return run


def _pictures_in_order(reader: _Reader, wanted: set[int], threads: int) -> Iterator[tuple[int, _Picture]]:
    """Decodes everything up to the last wanted frame, passing over what can't be decoded."""
    reader.use_threads(threads)
    last = max(wanted, default=-1)
    with closing(reader.frames()) as frames:
        for index, frame in enumerate(frame for frame in frames if frame is not None):
            if index > last:
                return
            if index in wanted:
                yield index, reader.picture(frame)


def _is_cut_off(reader: _Reader, clock: _Clock) -> bool:
    """Whether a Matroska file ends before its video does: it simply stops, with no sign but the stated duration."""
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", reader.stream.metadata.get("DURATION", ""))
    if not stated:
        return False
    hours, minutes, seconds = (float(part) for part in stated.groups())
    return clock.duration < 3600 * hours + 60 * minutes + seconds - 0.5


def _likely_frames(reader: _Reader, sample: _Sample) -> set[int]:
    fps = _declared_fps(reader.stream)
    count = reader.stream.frames or int((reader.container.duration or 0) / av.time_base * fps)
    if not 0 < count <= reader.file.size:  # no frame is smaller than a byte
        return set()
    try:
        return set(sample(count, fps))
    except ValueError:
        return set()


def _few_likely_frames(reader: _Reader, moments: Callable[[float], Iterable[float]]) -> set[int]:
    """The frames on screen at certain moments if the header's figures are right; none if they would be many."""

    def sample(count: int, fps: float) -> list[int]:
        return [int(moment * fps + 1e-6) for moment in moments(count / fps)] if fps else []

    likely = _likely_frames(reader, sample)
    return likely if len(likely) * reader.stream.width * reader.stream.height * 3 <= _MAX_KEPT_BYTES else set()


def _decode_all(reader: _Reader, keep: set[int], threads: int) -> _Run:
    """Decodes the whole file, passing over what can't be decoded, and converts the frames to keep."""
    reader.use_threads(threads)
    pictures: dict[int, _Picture] = {}
    times: list[float | None] = []
    damaged = False
    last_seconds = 0.0
    for frame in reader.frames():
        if frame is None or frame.is_corrupt:
            damaged = True
        if frame is None:
            continue
        if len(times) in keep:
            pictures[len(times)] = reader.picture(frame)
        times.append(None if frame.pts is None else frame.pts * reader.time_base)
        last_seconds = float(frame.duration * reader.time_base)
    if not times:
        raise VideoDecodingError(
            f"{reader.file.name}: none of its frames can be decoded ({_describe(reader.container)})"
        )
    fps = _declared_fps(reader.stream)
    seconds = np.array(times, dtype=np.float64)  # None becomes NaN
    if not (np.diff(seconds) > 0).all() or np.isnan(seconds[0]):
        seconds = np.arange(len(times)) / (fps or _DEFAULT_FPS)
    return _Run(_Clock.of(seconds - seconds[0], fps, last_seconds), pictures, damaged)
