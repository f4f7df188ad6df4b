"""Re-encode videos for training: 224 pixels on the short side, 3 frames per second, H.264 in MP4, no sound.

- The picture on screen at a given second stays the same. The new file has a frame at each time `j / 3` seconds after
  the start at which the original shows a new frame. So it never has more frames than the original, whatever duration
  the original declares. Pixels are made square, rotation is applied, and colours match the decoded original.
- If a moment is given, the new file has only the frames from `start` to `end` inclusive.
- Every third frame is a keyframe, so there is one a second. Because frames are sampled once a second, a sampled frame
  is decoded without others, unless the original has fewer than 3 frames per second.
- A video is never enlarged, because the processor does that, and a larger file would contain no more information.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from ..video_container_ts2net import MAX_PIXELS, VideoReader
from ..video_decoding_ts2net import damage_of, decode_in_order
from ..video_orientation_ts2net import orientation
from ..video_source_ts2net import VideoDecodingError, VideoSource, open_source
from ..video_timing_ts2net import EPSILON, NoTimesError, Timeline

SHORT_SIDE = 224  # pixels
FPS = 3
QUALITY = 20  # x264's constant rate factor

_ENCODER_OPTIONS = {
    "crf": str(QUALITY),
    "preset": "medium",
    "g": str(FPS),  # keyframe interval in frames
    "sc_threshold": "0",  # no extra keyframes at cuts, which would only increase the size
    "bf": "0",
    "x264-params": "cpu-independent=1",  # otherwise the bytes differ from run to run on some processors
}
# Without exact rounding, conversion to RGB and back darkens a video by one or two of 256 levels.
_SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_TIME_BASE = Fraction(1, FPS)
_MAX_NUMBER = 2**31 - 1  # of a frame; MP4 stores the time between two frames in 32 bits


@dataclass(frozen=True)
class Reencoded:
    """A re-encoded video.

    Attributes:
        video: Bytes of the new file.
        damage: Description of the parts of the original that could not be read, or None.
    """

    video: bytes
    damage: str | None


def reencode_video(source: VideoSource, start: float | None = None, end: float | None = None) -> Reencoded:
    """Re-encode a video for training.

    Args:
        source: A path, bytes or a binary file.
        start: Second of the file at which to begin; the first frame if None.
        end: Second of the file at which to end; the end of the video if None.

    Raises:
        VideoDecodingError: If the source is not a video, or none of its frames can be decoded.
        ValueError: If the video ends before `start`.
        OSError: If the file can't be read.
    """
    with open_source(source) as file, VideoReader(file, MAX_PIXELS) as reader:
        try:
            return _reencode(_Frames(reader), start, end)
        except NoTimesError:
            # Invalid times may appear only at the end, so this second attempt reads all times before encoding.
            with reader.another() as counted, reader.another() as again:
                run = decode_in_order(counted, (), threads=1)
                return _reencode(_Frames(again, run.timeline), start, end)


def _reencode(frames: "_Frames", start: float | None, end: float | None) -> Reencoded:
    writer = _Writer(frames.reader)
    for frame, number, count in _on_screen(frames, start, end):
        writer.add(frame, number, count)
    if writer.is_empty:
        raise ValueError(
            f"{frames.reader.file.name}: start={start} s lies beyond the end of the video ({frames.duration:.3f} s)"
        )
    return Reencoded(writer.finish(), frames.damage)


def _on_screen(frames: "_Frames", start: float | None, end: float | None) -> Iterator[tuple[av.VideoFrame, int, int]]:
    """Yield the frames of the new file, each with its first moment and its duration in thirds of a second."""
    begin = 0.0

    def moment_from(seconds: float) -> int:
        """Return the first third of a second that isn't before a time."""
        return max(math.ceil((seconds - begin - EPSILON) * FPS), 0)

    shown: av.VideoFrame | None = None
    moment, stop = 0, _MAX_NUMBER
    for seconds, frame in frames:
        if shown is None:  # the first frame is also shown before its time
            begin = seconds if start is None else start
            stop = _MAX_NUMBER if end is None else max(math.floor((end - begin + EPSILON) * FPS) + 1, 1)
        elif min(moment_from(seconds), stop) > moment:
            following = min(moment_from(seconds), stop)
            yield shown, moment, following - moment
            moment = following
        if moment >= stop:
            return
        shown = frame
    following = min(moment_from(frames.duration), stop)
    if shown is not None and following > moment:
        yield shown, moment, following - moment


class _Frames:
    """All frames of a video with the seconds at which they come on screen, as in `video_decoding_ts2net`.

    Attributes:
        reader: Reader of the file.
        damage: Description of the parts that could not be read so far, or None.
        duration: Duration in seconds, once all frames have been read.
    """

    def __init__(self, reader: VideoReader, timeline: Timeline | None = None) -> None:
        """Create from a reader at the start of its file. A timeline replaces the times in the file."""
        self.reader = reader
        self.damage: str | None = None
        self.duration = 0.0
        self._timeline = timeline

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield each frame with the second at which it comes on screen.

        Raises:
            NoTimesError: If times are missing, go backwards or stand still.
        """
        reader, clock = self.reader, self.reader.clock
        times: list[float] = []
        pts, ticks = None, 0  # timestamp and duration of the last frame
        for frame in reader.frames():
            if reader.met_damage:
                self.damage = "damaged or cut off"
            time = clock.seconds(frame.pts) if self._timeline is None else float(self._timeline.times[len(times)])
            if math.isnan(time):
                raise NoTimesError
            times.append(time)
            pts, ticks = frame.pts, frame.duration
            yield time, frame
        if not times:
            raise VideoDecodingError(f"{reader.file.name}: none of its frames can be decoded ({reader.describe()})")
        is_cut_off = reader.is_cut_off()
        if self._timeline is not None:
            self.duration = self._timeline.duration
        elif len(times) > 1 and times[-1] <= times[0]:
            raise NoTimesError
        else:
            last_duration = reader.last_duration(pts, ticks, is_cut_off)
            self.duration = Timeline.of(np.array(times), reader.declared_fps, last_duration).duration
        if reader.met_damage or is_cut_off:
            self.damage = damage_of(reader, len(times))


class _Writer:
    """An MP4 file in memory."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._file = io.BytesIO()
        self._container: Any = None
        self._stream: Any = None
        self._counts: dict[int | None, int] = {}  # durations in thirds of a second, by timestamp

    @property
    def is_empty(self) -> bool:
        """Whether no frame has been added yet."""
        return self._container is None

    def add(self, frame: av.VideoFrame, number: int, count: int) -> None:
        """Scale, rotate and encode a frame. The first frame determines the rotation of all frames.

        Args:
            frame: The frame.
            number: Time at which the frame comes on screen, in thirds of a second.
            count: Duration in thirds of a second.

        Raises:
            VideoDecodingError: If the frame has a format that can't be converted, or comes too late for an MP4.
        """
        name = self._reader.file.name
        if number + count >= _MAX_NUMBER:
            raise VideoDecodingError(f"{name}: it lasts over {_MAX_NUMBER // FPS} s, more than an MP4 can")
        if self._container is None:
            self._open(frame)
        try:
            rgb = self._reader.rgb(frame, *self._size, interpolation=_SCALING)
            picture = av.VideoFrame.from_ndarray(self._orientation.apply(rgb), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=_SCALING,
                threads=1,
            )
            picture.pts, picture.time_base = number, _TIME_BASE
            self._counts[number] = count
            self._mux(self._stream.encode(picture))
        except av.FFmpegError as error:
            raise VideoDecodingError(f"{name}: its {frame.format.name} frames can't be re-encoded") from error

    def finish(self) -> bytes:
        """Finish the file and return its bytes. No frame can be added afterwards."""
        self._mux(self._stream.encode())
        self._container.close()
        return self._file.getvalue()

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._counts.pop(packet.pts)  # the encoder drops durations
            self._container.mux(packet)

    def _open(self, frame: av.VideoFrame) -> None:
        self._size = _small(*self._reader.shown_size)
        self._orientation = orientation(frame)
        # A tick is a third of a second. With finer ticks, hours without a new picture would exceed 32 bits.
        self._container = av.open(self._file, "w", format="mp4", options={"video_track_timescale": str(FPS)})
        self._stream = self._container.add_stream("libx264", rate=FPS, options=_ENCODER_OPTIONS)
        width, height = self._size
        turned = (height, width) if self._orientation.transpose else (width, height)
        self._stream.width, self._stream.height = turned
        self._stream.pix_fmt = "yuv420p"
        encoder = self._stream.codec_context
        encoder.time_base = _TIME_BASE
        encoder.thread_count = 1  # each process encodes one video, and the bytes depend on the number of threads
        encoder.colorspace, encoder.color_range = int(Colorspace.SMPTE170M), int(ColorRange.MPEG)


def _small(width: int, height: int) -> tuple[int, int]:
    """Return the size with 224 pixels on the short side, never enlarged, and even on both sides, as 4:2:0 needs."""
    scale = min(SHORT_SIDE / min(width, height), 1.0)
    return max(2 * round(width * scale / 2), 2), max(2 * round(height * scale / 2), 2)
