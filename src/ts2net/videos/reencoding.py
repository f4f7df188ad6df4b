"""A video made small for training: 224 pixels on the short side, 3 frames a second, H.264 in MP4, no sound.

Notable here:
- What is shown at a given second stays the same. Frame `j` of the new file is the one on screen `j / 3` seconds after
  the start, however uneven the frame rate; a rotation is applied; colours are those that decoding the original gives.
  So sampling the new file gives what sampling the original gives, but for rounding in originals whose rate is no whole
  number, where the sampler's second is a little short.
- Only the moment is kept, where there is one. The new file has the frames from `start` to `end` inclusive.
- A frame is coded without reference to others once a second, which is how often frames are sampled, so that each is
  decoded alone.
- A video is never enlarged: the processor does that, and a larger file would tell it nothing.
"""

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

# The decoder's own, which no one else needs: the same checks, the same passing over damage, the same turning.
from ..video_decoding_ts2net import _DEFAULT_FPS, MAX_PIXELS, _orientation, _Reader
from ..video_source_ts2net import VideoDecodingError, VideoSource, open_source

SHORT_SIDE = 224  # pixels
FRAMES_PER_SECOND = 3
QUALITY = 20  # x264's constant rate factor

_ENCODER_OPTIONS = {
    "crf": str(QUALITY),
    "preset": "medium",
    "g": str(FRAMES_PER_SECOND),  # frames from one that stands alone to the next
    "sc_threshold": "0",  # no more of them at cuts, which would shift nothing but cost bytes
    "bf": "0",
    "x264-params": "cpu-independent=1",  # else some processors give other bytes each time
}
# Without exact rounding, going to RGB and back darkens a video by one or two of 256 levels.
_SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_TIME_BASE = Fraction(1, FRAMES_PER_SECOND)
_MARGIN = 1e-6  # seconds, as the decoder has it: times are sums of fractions


@dataclass(frozen=True)
class Reencoded:
    """A new file.

    Attributes:
        video: its bytes.
        damage: what could not be read of the original, or None.
    """

    video: bytes
    damage: str | None


def reencode_video(source: VideoSource, start: float | None = None, end: float | None = None) -> Reencoded:
    """Makes a video small.

    Args:
        source: a path, bytes or a binary file.
        start: seconds, where to begin; the video's start if None.
        end: seconds, the last moment to keep; the video's end if None.

    Raises:
        VideoDecodingError: not a video, or none of its frames can be decoded.
        ValueError: the video ends before `start`.
        OSError: the file can't be read.
    """
    with open_source(source) as file, _Reader(file, MAX_PIXELS) as reader:
        try:
            return _reencode(reader, start or 0.0, end, timed=True)
        except _NoTimesError:
            with reader.another() as again:
                return _reencode(again, start or 0.0, end, timed=False)


def _reencode(reader: _Reader, start: float, end: float | None, timed: bool) -> Reencoded:
    frames = _Frames(reader, timed)
    writer = _Writer(reader.file.name)
    for frame in _on_screen(frames, start, end):
        writer.add(frame)
    if writer.num_frames == 0:
        raise ValueError(
            f"{reader.file.name}: start={start} s lies beyond the end of the video ({frames.duration:.3f} s)"
        )
    return Reencoded(writer.finish(), frames.damage)


def _on_screen(frames: "_Frames", start: float, end: float | None) -> Iterator[av.VideoFrame]:
    """The frame that is on screen at each moment that the new file has a frame for."""
    last = math.inf if end is None else end + _MARGIN
    moments = (start + number / FRAMES_PER_SECOND for number in itertools.count())
    moment = next(moments)
    shown: av.VideoFrame | None = None
    for time, frame in frames:
        while shown is not None and moment <= last and moment + _MARGIN < time:
            yield shown
            moment = next(moments)
        if moment > last:
            return
        shown = frame
    while shown is not None and moment <= last and moment + _MARGIN < frames.duration:
        yield shown
        moment = next(moments)


class _NoTimesError(Exception):
    """The frames have no times, or these go backwards: the frame rate alone has to do."""


class _Frames:
    """All frames of a video with the seconds at which they come on screen, by the decoder's own rules.

    Attributes:
        damage: what could not be read, once all have been drawn.
        duration: seconds, once all have been drawn.
    """

    def __init__(self, reader: _Reader, timed: bool) -> None:
        self._reader = reader
        self._timed = timed
        stream = reader.stream
        self._fps = float(stream.guessed_rate or stream.average_rate or _DEFAULT_FPS)
        self.damage: str | None = None
        self.duration = 0.0

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        reader = self._reader
        count, damaged = 0, False
        first, time, last_seconds = 0.0, -1.0, 0.0
        for frame in reader.frames():
            damaged = damaged or frame is None or frame.is_corrupt
            if frame is None:
                continue
            if not self._timed:
                time = count / self._fps
            elif frame.pts is None:
                raise _NoTimesError
            else:
                seconds = frame.pts * reader.time_base
                first = first if count else seconds
                if seconds - first <= time:
                    raise _NoTimesError
                time = seconds - first
            last_seconds = float(frame.duration * reader.time_base) if self._timed else 0.0
            count += 1
            yield time, frame
        if count == 0:
            raise VideoDecodingError(f"{reader.file.name}: none of its frames can be decoded")
        period = time / (count - 1) if count > 1 else 1 / self._fps
        self.duration = time + (last_seconds or period)
        promised = reader.stream.frames
        if damaged or promised > count:
            of_those = f" of the {promised} that its header promises" if promised else ""
            self.damage = f"damaged or cut off; {count} frames{of_those} could be decoded"


class _Writer:
    """An MP4 file in memory."""

    def __init__(self, name: str) -> None:
        self.num_frames = 0
        self._name = name
        self._file = io.BytesIO()
        self._container: Any = None
        self._stream: Any = None
        self._reformatter = VideoReformatter()

    def add(self, frame: av.VideoFrame) -> None:
        """Scales, turns and encodes a frame; the first decides the size of all."""
        if self._container is None:
            self._open(frame)
        try:
            rgb = self._reformatter.reformat(
                frame, *self._size, format="rgb24", interpolation=_SCALING, threads=1
            ).to_ndarray()
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(self._turned(rgb)), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation=_SCALING,
                threads=1,
            )
            picture.pts = self.num_frames
            picture.time_base = _TIME_BASE
            self._container.mux(self._stream.encode(picture))
        except av.FFmpegError as error:
            raise VideoDecodingError(f"{self._name}: its {frame.format.name} frames can't be re-encoded") from error
        self.num_frames += 1

    def finish(self) -> bytes:
        """The file, to which nothing can be added any more."""
        self._container.mux(self._stream.encode())
        self._container.close()
        return self._file.getvalue()

    def _open(self, frame: av.VideoFrame) -> None:
        self._size = _small(frame.width, frame.height)
        self._orientation = _orientation(frame)
        self._container = av.open(self._file, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER_OPTIONS)
        width, height = self._size
        transpose = self._orientation[0]
        self._stream.width, self._stream.height = (height, width) if transpose else (width, height)
        self._stream.pix_fmt = "yuv420p"
        encoder = self._stream.codec_context
        encoder.time_base = _TIME_BASE
        encoder.thread_count = 1  # each process encodes one video, and the bytes depend on the number of threads
        encoder.colorspace, encoder.color_range = int(Colorspace.SMPTE170M), int(ColorRange.MPEG)

    def _turned(self, rgb: np.ndarray) -> np.ndarray:
        transpose, flip_rows, flip_columns = self._orientation
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _small(width: int, height: int) -> tuple[int, int]:
    """The size that has 224 pixels on the short side and even numbers on both, as 4:2:0 video needs; never larger."""
    scale = min(SHORT_SIDE / min(width, height), 1.0)
    return max(2 * round(width * scale / 2), 2), max(2 * round(height * scale / 2), 2)
