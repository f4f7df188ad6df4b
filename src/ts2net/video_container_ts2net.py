"""An open video file: its packets and frames, and the table of its frames without decoding any.

Notable here:
- A video is opened by its bytes and only as a file that stands alone: a playlist, which names other files or
  addresses, is refused before anything it names is touched.
- A table is believed only as far as it can be checked: what an MP4 header says is compared with the last packets, and
  times with the order of decoding.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Disposition
from av.video import VideoStream
from av.video.reformatter import VideoReformatter

from .video_bitstream_ts2net import Bitstream, References
from .video_cropping_ts2net import Cropping, cropping_in_matroska, cropping_in_mp4
from .video_source_ts2net import FileView, SharedFile, VideoDecodingError
from .video_timing_ts2net import DEFAULT_FPS, FrameClock, Timeline, first_second

MAX_PIXELS = 2**26  # a frame: 8192 x 8192, twice 8K television
_MIN_PIXELS_FOR_THREADS = 2**16  # measured: two threads are slower than one at 176x144, faster at 320x240
_MAX_PIXEL_ASPECT = 10  # no format has pixels that long: a larger ratio is a mistake, and pixels count as square

# Containers that hold their own data. All that may name another file or address (hls, dash, concat, image2, sdp, ...)
# are left out.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,ivf,nut,mxf,gxf,wtv,rm,dv,nsv,"
    "h261,h263,h264,hevc,vvc,m4v,obu,av1,mjpeg,dirac,vc1,cavsvideo,yuv4mpegpipe"
)
# Seconds. An edit list counts in the film's clock, mostly of milliseconds: what is left of it may be rounding.
_EDIT_ROUNDING = 0.002
_MOV, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
# Codecs whose keyframes (for H.264 and HEVC, after a look at the bytes) let decoding start afresh.
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd"}
# No level of H.264 or HEVC lets more pictures be decoded before one that is shown before them. So many may follow an
# HEVC keyframe and be shown before it, and among so many last packets is the frame that is shown last.
_MAX_REORDERED = 16


class TableError(Exception):
    """What was read of a file disagrees with the table of its frames."""


class Orientation(NamedTuple):
    """How to turn a stored picture for showing: swap rows and columns, then flip rows, then flip columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Turns pixels `(..., height, width, 3)`."""
        if self.transpose:
            rgb = rgb.swapaxes(-3, -2)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in (self.flip_rows, self.flip_columns))
        return np.ascontiguousarray(rgb[..., rows, columns, :])


@dataclass(frozen=True)
class Picture:
    """A decoded frame: `(height, width, 3)` RGB uint8 with square pixels, and how it is turned for showing."""

    rgb: np.ndarray
    orientation: Orientation


@dataclass(frozen=True)
class EntryPoint:
    """A keyframe: how many frames are decoded before it, and the timestamp that seeking and checking go by."""

    index: int
    timestamp: int


@dataclass(frozen=True)
class FrameTable:
    """The timestamp of every frame in order of presentation, and where decoding may start for a given frame."""

    pts: np.ndarray
    timeline: Timeline
    entry_point: Callable[[int], EntryPoint]


class VideoReader:
    """An open container and the decoder of its best video stream.

    Attributes:
        file: the bytes.
        stream: the video stream.
        decoder: its decoder.
        time_base: seconds of a tick of the stream's timestamps.
        declared_fps: the frame rate that the file declares, 0 if none.
        clock: turns the timestamps of all frames, in order, into seconds from the start of the file.
        met_damage: whether `frames` came across something that can't be decoded, or not whole.
        shown_size: width and height with square pixels, of what the container doesn't cut off, before a picture is
            turned.
    """

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
            raise VideoDecodingError(f"{file.name}: {_what_is_refused(file)}") from error
        except (av.FFmpegError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise VideoDecodingError(f"{file.name}: not a video that can be read ({reason})") from error
        try:
            self.stream = self._best_video_stream()
            self._cropping = self._find_cropping()
            self.shown_size = self._shown_size()
        except VideoDecodingError:
            self.container.close()
            raise
        for stream in self.container.streams:
            if stream is not self.stream:
                stream.discard = Discard.all
        self.time_base = float(self.stream.time_base or 0)
        self.declared_fps = float(self.stream.guessed_rate or self.stream.average_rate or 0)
        self.decoder = self.stream.codec_context
        self.decoder.options = {"max_pixels": str(max_pixels)}
        self.decoder.thread_count = 1
        self._codec = self.decoder.codec.canonical_name
        self._format = self.container.format.name
        flags: Any = self.container.format.flags  # an int, whatever PyAV's annotation says
        self._may_jump = bool(flags & Flags.ts_discont.value)
        self._bitstream = Bitstream(self._codec, self.decoder.extradata or b"")
        self.clock = FrameClock(self.time_base, self.start(), self._may_jump, self.declared_fps or DEFAULT_FPS)
        self.met_damage = False
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.container.close()

    def another(self) -> "VideoReader":
        """A second reader of the same file, at its start."""
        return VideoReader(self.file, self.max_pixels)

    def fresh(self) -> "VideoReader":
        """A reader at the start of the file: this one, unless it has been read from."""
        return self.another() if self._was_read else self

    def last_duration(self, pts: int | None, duration: int | None, is_cut_off: bool = False) -> float:
        """Seconds that the last frame is on screen, 0 if unknown.

        In MP4 that is until the track's stated end. A packet's duration there is the time to the next one in the order
        of decoding, which says nothing of the last one shown, and an edit list may end earlier or later.

        Args:
            pts: its timestamp.
            duration: what the file says of its packet, in ticks.
            is_cut_off: the file ends before its track.
        """
        stream = self.stream
        if self._format == _MOV and pts is not None and stream.duration and not is_cut_off:
            start = stream.start_time or 0
            if start > 0 and self._is_trimmed():
                start = 0  # FFmpeg's duration is then that of the edit list, which has the delay before the start
            left = (start + stream.duration - pts) * self.time_base
            if left > _EDIT_ROUNDING:
                return left
        return (duration or 0) * self.time_base

    def describe(self) -> str:
        """Container and kinds of streams, for messages."""
        kinds = [stream.type for stream in self.container.streams]
        return f"{self.container.format.name} with {', '.join(kinds) or 'no stream'}"

    def is_cut_off(self) -> bool:
        """Whether the file is shorter than its own structure says."""
        if self._format == _MOV:
            return any(entry.pos + entry.size > self.file.size for entry in self.stream.index_entries)
        head = self.file.read_at(0, 256)
        if self._format == _MATROSKA:
            return _matroska_size(head) > self.file.size
        return self._format == "avi" and int.from_bytes(head[4:8], "little") > self.file.size

    # -- packets and frames

    def use_threads(self, count: int) -> None:
        """Decodes several frames at a time, where they aren't so small that handing them over costs more.

        To be called before the first frame.
        """
        count = count if self.stream.width * self.stream.height >= _MIN_PIXELS_FOR_THREADS else 1
        self.decoder.thread_count = count
        self.decoder.thread_type = "FRAME" if count > 1 else "NONE"

    def refuse_damage(self) -> None:
        """Lets a damaged Motion JPEG frame raise an error: its decoder is the one that marks none as such.

        To be called before the first frame.
        """
        if self._codec == "mjpeg":
            self.decoder.options = self.decoder.options | {"err_detect": "explode"}

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

    def packets_from(self, start: EntryPoint) -> Iterator[av.Packet]:
        """The packets from a keyframe on.

        Raises:
            TableError: there is no such keyframe, or decoding can't start there.
        """
        self.container.seek(start.timestamp, stream=self.stream)
        packets = self.packets()
        for packet in packets:
            timestamp = packet.dts if self._format == _MOV else packet.pts
            if timestamp is None or timestamp >= start.timestamp:
                break  # a seek may land before the keyframe, which costs only a little time
        else:
            raise TableError
        if timestamp != start.timestamp or not self._bitstream.is_entry_point(packet):
            raise TableError
        yield packet
        yield from packets

    def references(self) -> References:
        """Follows the frames that others refer to, from an entry point on."""
        return self._bitstream.references()

    def is_disposable(self, packet: av.Packet) -> bool:
        """Whether no other frame refers to that of a packet."""
        return self._bitstream.is_disposable(packet)

    def frames(self) -> Generator[av.VideoFrame, None, None]:
        """All frames, without those of packets that can't be decoded.

        Some decoders (Motion JPEG, FFV1, ProRes) leave the missing part of a damaged picture as it was in memory: that
        of an earlier frame which is no longer in use. So each frame stays in use until the next one, whoever takes
        them, and the result is always the same.
        """
        packets = self.packets()
        more = True
        while more:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the position where the file breaks off
                packet = None
                self.met_damage = True
            more = packet is not None
            if packet is not None and packet.pts is not None:
                self.clock.reach(packet.pts)
            try:
                for frame in self.decoder.decode(packet):  # None makes it give what it has held back
                    self.met_damage |= frame.is_corrupt
                    yield frame
            except av.FFmpegError:
                self.met_damage = True

    def picture(self, frame: av.VideoFrame) -> Picture:
        """Converts a frame to RGB with square pixels. One of another size is scaled to the stream's."""
        try:
            rgb = self.rgb(frame, *self.shown_size)
        except av.FFmpegError as error:
            message = f"{self.file.name}: its {frame.format.name} frames can't be converted to RGB"
            raise VideoDecodingError(message) from error
        return Picture(rgb, orientation(frame))

    def rgb(self, frame: av.VideoFrame, width: int, height: int, interpolation: int | None = None) -> np.ndarray:
        """The pixels `(height, width, 3)` of a frame, without what the container cuts off.

        Raises:
            av.FFmpegError: the frame is of a kind that can't be converted.
        """
        settings: dict[str, Any] = {"format": "rgb24", "threads": 1}
        if interpolation is not None:
            settings["interpolation"] = interpolation
        if any(self._cropping):
            top, bottom, left, right = self._cropping
            stored_width, stored_height = self.stream.width, self.stream.height
            whole = self._reformatter.reformat(frame, stored_width, stored_height, **settings).to_ndarray()
            rest: Any = np.ascontiguousarray(whole[top : stored_height - bottom, left : stored_width - right])
            frame = av.VideoFrame.from_ndarray(rest, format="rgb24")
        return self._reformatter.reformat(frame, width, height, **settings).to_ndarray()

    # -- tables

    def table_from_index(self) -> FrameTable | None:
        """The table by the index in an MP4 header, without reading more than the last packets.

        The index has decoding times. Evenly spaced, or in a stream that never reorders frames, these are the
        presentation times but for an offset: as many different times as there are steps from the first to the last
        leave no gap. Which is the last is what the last packets tell.
        """
        stream = self.stream
        if self._format != _MOV or self._codec not in _SEEKABLE_CODECS or stream.start_time is None:
            return None
        index = stream.index_entries
        entries = list(index)
        if not entries or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
            return None
        if any(entry.pos + entry.size > self.file.size for entry in entries):  # cut off
            return None
        dts = np.array([entry.timestamp for entry in entries], dtype=np.int64)
        steps = np.diff(dts)
        reorders = self.decoder.reorder_depth > 0
        if (steps <= 0).any() or (reorders and (steps != steps[:1]).any()):
            return None
        pts = dts - dts[0] + stream.start_time

        tail = entries[-1 - _MAX_REORDERED :] if reorders else entries[-1:]
        last = self._last_shown(tail[0].timestamp, len(tail))
        if last is None or last.pts != pts[-1]:
            return None

        def entry_point(frame: int) -> EntryPoint:
            before = max(frame - _MAX_REORDERED, 0) if self._codec == "hevc" else frame
            key = index.search_timestamp(entries[before].timestamp)
            if key < 0:
                raise TableError
            return EntryPoint(key, entries[key].timestamp)

        return FrameTable(pts, self._timeline(pts, last.duration), entry_point)

    def table_from_packets(self) -> FrameTable | None:
        """The table by reading every packet, without decoding any."""
        if self._format not in (_MOV, _MATROSKA) or self._codec not in _SEEKABLE_CODECS or self.is_cut_off():
            return None
        shown: list[tuple[int, int]] = []  # timestamp and duration in the order of decoding
        entry_points: list[tuple[int, EntryPoint]] = []  # with the presentation time of each
        try:
            for packet in self.packets():
                timestamp = packet.dts if self._format == _MOV else packet.pts
                if packet.pts is None or timestamp is None or packet.is_corrupt:
                    return None
                if self._bitstream.is_entry_point(packet):
                    entry_points.append((packet.pts, EntryPoint(len(shown), timestamp)))
                if not packet.is_discard:
                    shown.append((packet.pts, packet.duration or 0))
        except av.FFmpegError:
            return None
        if not shown:
            return None
        decoded = np.array([pts for pts, _ in shown], dtype=np.int64)
        order = decoded.argsort(kind="stable")
        pts = decoded[order]
        # Times that the decoder could not bring into this order are wrong in the file.
        reordered = _MAX_REORDERED if self.decoder.reorder_depth else 0
        if (np.diff(pts) <= 0).any() or np.abs(order - np.arange(len(order))).max() > reordered:
            return None
        entry_points.sort(key=lambda item: item[0])
        starts = [start for start, _ in entry_points]

        def entry_point(frame: int) -> EntryPoint:
            position = bisect_right(starts, pts[frame]) - 1
            if position < 0:
                raise TableError
            return entry_points[position][1]

        return FrameTable(pts, self._timeline(pts, shown[order[-1]][1]), entry_point)

    def _last_shown(self, timestamp: int, count: int) -> av.Packet | None:
        """Of the last so many packets, the one that is shown last; None if the file doesn't have them."""
        self._was_read = True
        try:
            self.container.seek(timestamp, stream=self.stream, any_frame=True)
            packets = [packet for packet in self.packets() if packet.dts is not None and packet.dts >= timestamp]
        except av.FFmpegError:
            return None
        by_time = {packet.pts: packet for packet in packets if packet.pts is not None and not packet.is_corrupt}
        return by_time[max(by_time)] if len(by_time) == len(packets) == count else None

    def _timeline(self, pts: np.ndarray, last_duration: int | None) -> Timeline:
        times = pts * self.time_base
        times = times - first_second(float(times[0]), self.start(), self._may_jump)
        return Timeline.of(times, self.declared_fps, self.last_duration(int(pts[-1]), last_duration))

    def _is_trimmed(self) -> bool:
        """Whether an edit list of an MP4 hides frames."""
        entries = self.stream.index_entries
        return len(entries) < self.stream.frames or any(entry.is_discard for entry in entries)

    def start(self) -> float | None:
        """Seconds at which the file starts by its own clock; None if it doesn't say."""
        if self._format in (_MOV, _MATROSKA):
            return 0.0  # a time line of its own, as browsers have it
        start = self.container.start_time
        return None if start is None else start / av.time_base

    # -- what is in the container

    def _best_video_stream(self) -> VideoStream:
        name = self.file.name
        best = self.container.streams.best("video")
        streams = sorted(self.container.streams.video, key=lambda stream: stream is not best)
        stream = next((s for s in streams if not s.disposition & Disposition.attached_pic), None)
        if stream is None:
            raise VideoDecodingError(f"{name}: no video stream, found {self.describe()}")
        if stream.codec_context is None:
            raise VideoDecodingError(f"{name}: no decoder for its video stream, found {self.describe()}")
        if any(each.disposition & Disposition.dependent for each in streams):
            raise VideoDecodingError(
                f"{name}: a picture made of {len(streams)} tiles, which can't be put together; expected a video, or a "
                "picture in one piece"
            )
        return stream

    def _find_cropping(self) -> Cropping:
        """What the container cuts off, where that leaves something."""
        stream, name = self.stream, self.container.format.name
        cropping = Cropping()
        if name == _MOV:
            cropping = cropping_in_mp4(self.file, stream.id, stream.width, stream.height)
        elif name == _MATROSKA:
            cropping = cropping_in_matroska(self.file, list(self.container.streams.video).index(stream))
        return cropping if cropping.fits(stream.width, stream.height) else Cropping()

    def _shown_size(self) -> tuple[int, int]:
        """Width and height with square pixels: the side along which pixels are longer grows, as in browsers."""
        top, bottom, left, right = self._cropping
        stored = self.stream.width, self.stream.height
        width, height = stored[0] - left - right, stored[1] - top - bottom
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, _MAX_PIXEL_ASPECT) <= aspect <= _MAX_PIXEL_ASPECT:
            aspect = Fraction(1)
        shown = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        for size in (stored, shown):
            message = f"{self.file.name}: frames of {size[0]}x{size[1]}, expected"
            if min(size) < 1:
                raise VideoDecodingError(f"{message} at least one pixel")
            if size[0] * size[1] > self.max_pixels:
                raise VideoDecodingError(f"{message} at most {self.max_pixels} pixels")
        return shown


def orientation(frame: av.VideoFrame) -> Orientation:
    """How a frame is turned for showing.

    The display matrix is rounded to the nearest of the eight that map a pixel grid to itself.
    """
    matrix: Any = _display_matrix(frame)
    if matrix is None:
        return Orientation(False, False, False)
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype="=i4").tolist()  # x' = a x + c y,  y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def _display_matrix(frame: av.VideoFrame) -> Any:
    try:
        return _side_data(frame).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV reads all side data of a frame or none, and fails at a kind that it has no name for, such as EXIF. So
        # those are taken off, by a filter of FFmpeg's.
        graph = av.filter.Graph()
        buffer = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1)
        )
        named = {kind.value for kind in SideDataType}
        deletions = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(64) if kind not in named]
        graph.link_nodes(buffer, *deletions, graph.add("buffersink")).configure()
        graph.vpush(frame)
        return _side_data(graph.vpull()).get("DISPLAYMATRIX")


def _side_data(frame: av.VideoFrame) -> SideDataContainer:
    """The side data of a frame.

    `frame.side_data` ties the frame to itself: its memory then waits for Python's collector of cycles, which knows
    nothing of its size, and what a decoder finds in memory it reuses depends on when that runs.
    """
    container: Any = SideDataContainer  # PyAV's annotation has no constructor
    return container(frame)


def _what_is_refused(file: SharedFile) -> str:
    """Says what a file is that is in none of the containers."""
    if file.read_at(8, 4) == b"WEBP":
        return "a WebP picture or animation, which can't be read; expected a video, a GIF or an APNG"
    return "not a video file that stands alone; playlists, image lists and single images are refused"


def _matroska_size(head: bytes) -> int:
    """Bytes of a Matroska file as its first bytes state them, 0 if they don't."""
    header_bytes, position = _ebml_size(head, 4)
    position += header_bytes
    if head[position : position + 4] != b"\x18\x53\x80\x67":  # the segment, which holds all the rest
        return 0
    segment_bytes, position = _ebml_size(head, position + 4)
    return position + segment_bytes


def _ebml_size(data: bytes, position: int) -> tuple[int, int]:
    """A size in EBML, 0 if it is left open, and the position behind it."""
    length = 9 - (data[position] if position < len(data) else 0).bit_length()
    value = int.from_bytes(data[position : position + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), position + length
