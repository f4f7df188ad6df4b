"""Reader of the packets and frames of an open video file.

Only self-contained files are opened, and only through their bytes. A playlist, which names other files or addresses,
is refused before any of them is opened.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.format import Flags
from av.stream import Discard, Disposition
from av.video import VideoStream
from av.video.reformatter import VideoReformatter

from .video_bitstream_ts2net import Bitstream, References
from .video_cropping_ts2net import Cropping, cropping_in_matroska, cropping_in_mp4, ebml_size
from .video_orientation_ts2net import Orientation, orientation
from .video_source_ts2net import FileView, SharedFile, VideoDecodingError
from .video_timing_ts2net import DEFAULT_FPS, FrameClock

MAX_PIXELS = 2**26  # per frame: 8192 x 8192, twice 8K television
_MIN_PIXELS_FOR_THREADS = 2**16  # measured: two threads are slower than one at 176x144, faster at 320x240
_MAX_PIXEL_ASPECT = 10  # no format has pixels that long: a larger ratio is an error, and treated as square pixels

# Self-contained formats. Formats that may refer to another file or address (hls, dash, concat, image2, sdp, ...) are
# left out.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,ivf,nut,mxf,gxf,wtv,rm,dv,nsv,"
    "h261,h263,h264,hevc,vvc,m4v,obu,av1,mjpeg,dirac,vc1,cavsvideo,yuv4mpegpipe"
)
# Seconds. An edit list counts in the movie's time scale, mostly milliseconds: a shorter remainder may be rounding.
_EDIT_ROUNDING = 0.002
MOV, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"


class TableError(Exception):
    """The content of a file disagrees with the table of its frames."""


@dataclass(frozen=True)
class Picture:
    """A decoded frame: `(height, width, 3)` RGB uint8 with square pixels, and its orientation for display."""

    rgb: np.ndarray
    orientation: Orientation


@dataclass(frozen=True)
class EntryPoint:
    """A keyframe: the number of frames decoded before it, and its timestamp for seeking and checking."""

    index: int
    timestamp: int


class VideoReader:
    """An open container and the decoder of its best video stream.

    Attributes:
        file: the bytes of the file.
        stream: the video stream.
        decoder: the stream's decoder.
        time_base: seconds per tick of the stream's timestamps.
        declared_fps: the frame rate that the file declares, 0 if none.
        format: FFmpeg's name of the container.
        codec: FFmpeg's name of the codec.
        may_jump: whether timestamps of this container format may be discontinuous.
        clock: converts the timestamps of all frames, in order, to seconds from the start of the file.
        met_damage: whether `frames` met data that can't be decoded, at least not completely.
        shown_size: width and height with square pixels, after the container's cropping and before rotation.
    """

    def __init__(self, file: SharedFile, max_pixels: int) -> None:
        self.file = file
        self.max_pixels = max_pixels
        self._was_read = False
        options = {
            "format_whitelist": _CONTAINERS,
            "protocol_whitelist": "none",
            "max_pixels": str(max_pixels),  # for the decoders that probe the streams
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
        self.codec = self.decoder.codec.canonical_name
        self.format = self.container.format.name
        flags: Any = self.container.format.flags  # an int, whatever PyAV's annotation says
        self.may_jump = bool(flags & Flags.ts_discont.value)
        self._bitstream = Bitstream(self.codec, self.decoder.extradata or b"")
        self.clock = FrameClock(self.time_base, self.start(), self.may_jump, self.declared_fps or DEFAULT_FPS)
        self.met_damage = False
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.container.close()

    def another(self) -> "VideoReader":
        """Open a second reader of the same file, at its start."""
        return VideoReader(self.file, self.max_pixels)

    def fresh(self) -> "VideoReader":
        """Return a reader at the start of the file: this one, unless it has been read from."""
        return self.another() if self._was_read else self

    def start(self) -> float | None:
        """Return the start of the file on its own clock in seconds, or None if the file doesn't state it."""
        if self.format in (MOV, MATROSKA):
            return 0.0  # the file has its own time line, as in browsers
        start = self.container.start_time
        return None if start is None else start / av.time_base

    def last_duration(self, pts: int | None, duration: int | None, is_cut_off: bool = False) -> float:
        """Return the seconds that the last frame is on screen, 0 if unknown.

        In MP4 the last frame ends with the track. A packet's duration in MP4 is the time to the next packet in
        decoding order, which is not valid for the last frame shown, and an edit list may end earlier or later.

        Args:
            pts: timestamp of the last frame.
            duration: duration of its packet according to the file, in ticks.
            is_cut_off: whether the file ends before its track.
        """
        stream = self.stream
        if self.format == MOV and pts is not None and stream.duration and not is_cut_off:
            start = stream.start_time or 0
            if start > 0 and self._is_trimmed():
                start = 0  # FFmpeg's duration is then the duration of the edit list, which includes the initial delay
            left = (start + stream.duration - pts) * self.time_base
            if left > _EDIT_ROUNDING:
                return left
        return (duration or 0) * self.time_base

    def _is_trimmed(self) -> bool:
        """Whether an edit list of an MP4 hides frames."""
        entries = self.stream.index_entries
        return len(entries) < self.stream.frames or any(entry.is_discard for entry in entries)

    def describe(self) -> str:
        """Describe the container and the kinds of its streams, for messages."""
        kinds = [stream.type for stream in self.container.streams]
        return f"{self.container.format.name} with {', '.join(kinds) or 'no stream'}"

    def is_cut_off(self) -> bool:
        """Whether the file is shorter than its own structure states."""
        if self.format == MOV:
            return any(entry.pos + entry.size > self.file.size for entry in self.stream.index_entries)
        head = self.file.read_at(0, 256)
        if self.format == MATROSKA:
            return _matroska_size(head) > self.file.size
        return self.format == "avi" and int.from_bytes(head[4:8], "little") > self.file.size

    # -- packets and frames

    def use_threads(self, count: int) -> None:
        """Decode several frames in parallel, unless they are so small that the overhead is larger than the gain.

        Call this before the first frame is decoded.
        """
        count = count if self.stream.width * self.stream.height >= _MIN_PIXELS_FOR_THREADS else 1
        self.decoder.thread_count = count
        self.decoder.thread_type = "FRAME" if count > 1 else "NONE"

    def refuse_damage(self) -> None:
        """Make the Motion JPEG decoder raise an error for a damaged frame, because it doesn't mark frames as corrupt.

        Call this before the first frame is decoded.
        """
        if self.codec == "mjpeg":
            self.decoder.options = self.decoder.options | {"err_detect": "explode"}

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the video stream from the current position to the end, in decoding order."""
        self._was_read = True
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except IndexError:
            # After the last packet PyAV looks up all streams, and fails for a stream that appeared in between.
            return

    def packets_from(self, start: EntryPoint) -> Iterator[av.Packet]:
        """Yield the packets from a keyframe on.

        Raises:
            TableError: If there is no such keyframe, or decoding can't start there.
        """
        self.container.seek(start.timestamp, stream=self.stream)
        packets = self.packets()
        for packet in packets:
            timestamp = packet.dts if self.format == MOV else packet.pts
            if timestamp is None or timestamp >= start.timestamp:
                break  # a seek may land before the keyframe, which only costs a little time
        else:
            raise TableError
        if timestamp != start.timestamp or not self.is_entry_point(packet):
            raise TableError
        yield packet
        yield from packets

    def packets_decoded_from(self, timestamp: int) -> Iterator[av.Packet]:
        """Iterate over packets that are decoded at a timestamp or later, even if decoding can't start there."""
        self._was_read = True
        self.container.seek(timestamp, stream=self.stream, any_frame=True)
        return (packet for packet in self.packets() if packet.dts is not None and packet.dts >= timestamp)

    def is_entry_point(self, packet: av.Packet) -> bool:
        """Whether decoding can start at a packet."""
        return self._bitstream.is_entry_point(packet)

    def references(self) -> References:
        """Create a tracker of reference frames, to be used from an entry point on."""
        return self._bitstream.references()

    def is_disposable(self, packet: av.Packet) -> bool:
        """Whether no other frame refers to the frame of a packet."""
        return self._bitstream.is_disposable(packet)

    def frames(self) -> Generator[av.VideoFrame, None, None]:
        """Yield all frames of packets that can be decoded.

        Some decoders (Motion JPEG, FFV1, ProRes) don't write the missing part of a damaged picture, so it shows old
        memory: an earlier frame that is no longer in use. For a deterministic result each frame is kept in use until
        the next one, whatever the caller does.
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
                for frame in self.decoder.decode(packet):  # None flushes the decoder
                    self.met_damage |= frame.is_corrupt
                    yield frame
            except av.FFmpegError:
                self.met_damage = True

    def picture(self, frame: av.VideoFrame) -> Picture:
        """Convert a frame to RGB with square pixels. A frame of another size is scaled to the stream's size."""
        try:
            rgb = self.rgb(frame, *self.shown_size)
        except av.FFmpegError as error:
            message = f"{self.file.name}: its {frame.format.name} frames can't be converted to RGB"
            raise VideoDecodingError(message) from error
        return Picture(rgb, orientation(frame))

    def rgb(self, frame: av.VideoFrame, width: int, height: int, interpolation: int | None = None) -> np.ndarray:
        """Return the pixels `(height, width, 3)` of a frame, after the container's cropping.

        Raises:
            av.FFmpegError: If the frame has a format that can't be converted.
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

    # -- content of the container

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
        """Return the container's cropping, or none if the cropping would leave no pixels."""
        stream, name = self.stream, self.container.format.name
        cropping = Cropping()
        if name == MOV:
            cropping = cropping_in_mp4(self.file, stream.id, stream.width, stream.height)
        elif name == MATROSKA:
            cropping = cropping_in_matroska(self.file, list(self.container.streams.video).index(stream))
        return cropping if cropping.fits(stream.width, stream.height) else Cropping()

    def _shown_size(self) -> tuple[int, int]:
        """Compute the size with square pixels. The side along which pixels are longer grows, as in browsers."""
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


def _what_is_refused(file: SharedFile) -> str:
    """Describe a file that has none of the accepted formats."""
    if file.read_at(8, 4) == b"WEBP":
        return "a WebP picture or animation, which can't be read; expected a video, a GIF or an APNG"
    return "not a video file that stands alone; playlists, image lists and single images are refused"


def _matroska_size(head: bytes) -> int:
    """Return the size in bytes that the header of a Matroska file states, 0 if it doesn't."""
    header, length = ebml_size(head[4:])
    position = 4 + length + (header or 0)
    if head[position : position + 4] != b"\x18\x53\x80\x67":  # the segment, which contains the rest of the file
        return 0
    segment, length = ebml_size(head[position + 4 :])
    return 0 if segment is None else position + 4 + length + segment
