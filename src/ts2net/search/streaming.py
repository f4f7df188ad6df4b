"""Decode a video into windows for the encoder, in memory that does not grow with its length.

Frames are decoded one at a time and resized at once. Only the frames of unfinished windows are kept, and neighbouring
windows share them. The cost is bounded by the number of frames in the file, not by its declared duration: a frame is
resized once, however long it is on screen, and a window that only repeats the single frame of the previous window is
left out.
"""

import io
import math
import warnings
from bisect import bisect_left
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import av
import numpy as np
import torch
from PIL import Image

from ..errors import may_pass, one_line
from ..video_processing_ts2net import TS2NetVideoProcessor
from ..video_source_ts2net import VideoDecodingError
from ..videos.broken import BrokenVideo
from .decoded import Decoded, DecodedWindow, EndOfVideo
from .frame_stream import StreamedFrame, stream_video
from .sources import VideoFile
from .windows import Window, WindowSettings, cut

THUMBNAIL_SHORT_SIDE = 160  # pixels
_THUMBNAIL_QUALITY = 80
_MAX_HOURS = 100  # a few bytes of a file can declare a thousand years
_MAX_ASPECT_RATIO = 32  # resizing scales the short side to the size of the model, so the long side could be huge


def decode_windows(
    file: VideoFile, settings: WindowSettings, processor: TS2NetVideoProcessor, *, num_threads: int = 1
) -> Iterator[Decoded]:
    """Decode a video into windows.

    Args:
        file: The video.
        settings: The window settings.
        processor: Processor that resizes frames for the model.
        num_threads: Number of CPU cores to use.

    Yields:
        The windows in order, without windows that only repeat the single frame of the previous one, then
        [`EndOfVideo`]. If the video can't be used, [`BrokenVideo`] is the last item instead, at any point.
    """
    damage: list[str] = []
    windows = _Windows(file, settings)
    try:
        with (
            file.open() as source,
            closing(
                _with_warnings_in(damage, stream_video(source, windows.moments, num_threads=num_threads))
            ) as stream,
        ):
            for frame in stream:
                yield from windows.take(frame, processor)
            yield from windows.finish()
    except (ValueError, OSError, MemoryError, RuntimeError, av.FFmpegError) as error:  # torch raises RuntimeError
        yield BrokenVideo(file.video_id, _reason(error, file), "" if may_pass(error) else file.signature)
        return
    if windows.num_yielded == 0:
        yield BrokenVideo(file.video_id, "it ends before the moment begins", file.signature)
        return
    first = _without_name(damage[0], file) if damage else None
    yield EndOfVideo(file.video_id, file.signature, windows.duration, file.metadata, windows.num_yielded, first)


def _with_warnings_in(messages: list[str], stream: Iterator[StreamedFrame]) -> Generator[StreamedFrame, None, None]:
    """Yield the frames of a stream, and add its warnings to `messages`, but not other warnings between two frames."""
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = next(stream, None)
        messages += [str(warning.message) for warning in caught]
        if frame is None:
            return
        yield frame


@dataclass(frozen=True)
class _SmallFrame:
    """A frame that is kept: `pixels` `(3, H, W)` for the model, `thumbnail` `(h, w, 3)`, both uint8."""

    index: int
    timestamp: float
    pixels: np.ndarray
    thumbnail: np.ndarray


class _Windows:
    """The windows of a video, filled frame by frame."""

    def __init__(self, file: VideoFile, settings: WindowSettings) -> None:
        self._file = file
        self._settings = settings
        self._plan: list[Window] = []
        self._held: dict[float, _SmallFrame] = {}  # by moment, in ascending order
        self._last: _SmallFrame | None = None
        self._num_done = 0  # windows that were yielded or left out
        self._shown: set[int] = set()  # the frames of the last of these windows
        self.num_yielded = 0
        self.duration = 0.0

    def moments(self, duration: float) -> list[float]:
        """Plan the windows for a duration, and return the moments at which to sample frames for them.

        Raises:
            VideoDecodingError: If the duration is out of range.
        """
        if not 0 < duration <= 3600 * _MAX_HOURS:
            raise VideoDecodingError(f"it lasts {duration:g} s, expected at most {_MAX_HOURS} hours")
        begin = self._file.start or 0.0
        end = min(duration if self._file.end is None else self._file.end, duration)
        self.duration = duration
        self._plan = []
        if begin < end:
            self._plan = [
                Window(begin + window.start, min(begin + window.end, end))
                for window in cut(end - begin, self._settings)
            ]
        return sorted({moment for window in self._plan for moment in self._grid(window)})

    def take(self, frame: StreamedFrame, processor: TS2NetVideoProcessor) -> Iterator[DecodedWindow]:
        """Keep a frame, and yield the windows that end before it.

        Raises:
            VideoDecodingError: If one side of the frame is much longer than the other.
        """
        height, width = frame.rgb.shape[:2]
        if max(height, width) > _MAX_ASPECT_RATIO * min(height, width):
            raise VideoDecodingError(f"frames of {width}x{height}, expected sides of at most 1:{_MAX_ASPECT_RATIO}")
        yield from self._finished(until=frame.moment)
        if self._last is None or self._last.index != frame.index:
            pixels, thumbnail = _model_pixels(frame.rgb, processor), _small(frame.rgb)
            self._last = _SmallFrame(frame.index, frame.timestamp, pixels, thumbnail)
        self._held[frame.moment] = self._last

    def finish(self) -> Iterator[DecodedWindow]:
        """Yield the remaining windows."""
        yield from self._finished(until=math.inf)

    def _grid(self, window: Window) -> list[float]:
        """Return the moments of a window's frames, rounded so that neighbouring windows share them."""
        moments = [round(window.start + number / self._settings.fps, 6) for number in range(self._settings.num_frames)]
        return moments[: max(1, bisect_left(moments, window.end))]

    def _finished(self, until: float) -> Iterator[DecodedWindow]:
        while self._num_done < len(self._plan):
            window = self._plan[self._num_done]
            grid = self._grid(window)
            if grid[-1] >= until:
                return
            frames = [self._held[moment] for moment in grid if moment in self._held]
            if not frames:  # the video ends within half a frame of the window's start
                self._plan = self._plan[: self._num_done]
                return
            shown = {frame.index for frame in frames}
            if len(shown) > 1 or shown != self._shown:
                yield DecodedWindow(
                    video_id=self._file.video_id,
                    number=self.num_yielded,
                    start=window.start,
                    end=window.end,
                    frame_times=[frame.timestamp for frame in frames],
                    frame_numbers=[frame.index for frame in frames],
                    pixels=np.stack([frame.pixels for frame in frames]),
                    thumbnail=_jpeg(frames[len(frames) // 2].thumbnail),
                    video_seconds=self.duration,
                )
                self.num_yielded += 1
            self._shown = shown
            self._num_done += 1
            following = self._plan[self._num_done].start if self._num_done < len(self._plan) else math.inf
            self._held = {moment: frame for moment, frame in self._held.items() if moment >= round(following, 6)}


def _model_pixels(rgb: torch.Tensor, processor: TS2NetVideoProcessor) -> np.ndarray:
    """Resize a frame `(height, width, 3)` for the model with the processor, and return it as uint8 `(3, H, W)`."""
    pixels = processor(
        rgb[None],
        input_data_format="channels_last",
        do_sample_frames=False,
        do_rescale=False,
        do_normalize=False,
        do_pad=False,
    )["pixel_values_videos"][0]
    return pixels[0].to(torch.uint8).numpy()


def _small(rgb: torch.Tensor) -> np.ndarray:
    height, width = rgb.shape[:2]
    scale = min(1.0, THUMBNAIL_SHORT_SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(rgb.numpy()).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _jpeg(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _reason(error: Exception, file: VideoFile) -> str:
    """Return the message of an error in one line, without the file's name, which may itself have several lines."""
    message = getattr(error, "strerror", None) or _without_name(str(error), file)
    return one_line(ValueError(message)) if message else one_line(error)


def _without_name(message: str, file: VideoFile) -> str:
    return message.removeprefix(f"{file.video_id}: ").removeprefix(f"{file.path}: ")
