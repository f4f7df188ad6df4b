"""Comparison of the package's results for a file with the truth: processor, stream of search and re-encoding.

Every check yields its disagreements as text instead of raising, so that a run over thousands of files can list them.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from ts2net import TS2NetVideoProcessor
from ts2net.search.decoded import DecodedWindow, EndOfVideo
from ts2net.search.frame_stream import stream_video
from ts2net.search.sources import VideoFile
from ts2net.search.streaming import decode_windows
from ts2net.search.windows import WindowSettings
from ts2net.video_source_ts2net import VideoDecodingError
from ts2net.videos.reencoding import reencode_video

from .truth import Case, Truth, UnreadableError, truth

_AS_DECODED = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
_MOMENTS = 40  # moments of a stream, in addition to the first whole seconds
_REENCODED_FPS = 3
_SIGNATURE = (24, 32)  # rows and columns to which a picture is reduced when it is not compared exactly
_NOISE = 2.0  # levels by which lossy coding may make the wrong picture nearer than the right one


def disagreements(case: Case) -> list[str]:
    """Return all disagreements of the package with the truth about a file."""
    if case.refused is not None:
        return list(_refusals(case))
    try:
        expected = _Expected(case, truth(case))
    except UnreadableError:
        return list(_refusals(replace(case, refused="")))
    complaints: list[str] = []
    checks = {"processor": _processor, "stream": _stream, "windows": _windows, "reencode": _reencoded}
    for name, check in checks.items():
        try:
            complaints += [f"{name}: {line}" for line in check(case, expected)]
        except Exception as error:
            complaints.append(f"{name}: {type(error).__name__}: {str(error).replace(str(case.path), case.path.name)}")
    return complaints


def _refusals(case: Case) -> Iterator[str]:
    """Check that every way of reading reports why it can't read a file."""
    ways: dict[str, Callable[[], Any]] = {
        "processor": lambda: TS2NetVideoProcessor()(str(case.path)),
        "stream": lambda: list(stream_video(str(case.path), lambda duration: [0.0])),
        "reencode": lambda: reencode_video(str(case.path)),
    }
    for name, way in ways.items():
        try:
            way()
            yield f"{name}: reads what was to be refused"
        except VideoDecodingError as error:
            if str(case.refused) not in str(error):
                yield f"{name}: says {error}, expected something of {case.refused!r}"


@dataclass
class _Expected:
    """The truth about a file, and comparisons of pictures with it."""

    case: Case
    truth: Truth
    _signatures: np.ndarray | None = field(default=None)

    def moments(self, start: float, end: float | None, fps: float) -> Iterator[tuple[float, bool]]:
        """Yield the moments `start`, `start + 1/fps`, ... until the end, each with whether it may be missing there."""
        last = float(self.truth.end) if end is None else min(end + 1e-6, float(self.truth.end))
        slack = float(self.tolerance)
        number = 0
        while (moment := start + number / fps) < float(self.truth.end) + slack:
            if end is not None and moment > end + 1e-6:
                return
            yield moment, moment > last - slack if end is None or end > last - slack else False
            number += 1

    @property
    def tolerance(self) -> Fraction:
        """Seconds by which two readers may differ in the end of the last frame."""
        return self.truth.end_tolerance

    def is_frame(self, picture: np.ndarray, indices: Iterable[int]) -> bool:
        """Whether a decoded picture `(height, width, 3)` equals one of the frames with these indices."""
        if self.case.size is None and self.truth.aspect == 1:
            if any(np.array_equal(picture, self.truth.pictures[index]) for index in indices):
                return True
            if not self.truth.unsettled.intersection(indices):
                return False
        return self.resembles(picture, indices)

    def resembles(self, picture: np.ndarray, indices: Iterable[int]) -> bool:
        """Whether a scaled or re-encoded picture is more similar to one of these frames than to any other frame."""
        distances = self.distances(picture)
        return bool(min(distances[index] for index in indices) <= distances.min() + _NOISE)

    def looks_like(self, picture: np.ndarray) -> int:
        """Return the index of the frame that is most similar to a picture."""
        return int(self.distances(picture).argmin())

    def distances(self, picture: np.ndarray) -> np.ndarray:
        """Compute the mean difference of a picture from each frame, in levels."""
        if self._signatures is None:
            self._signatures = np.stack([_signature(true) for true in self.truth.pictures])
        return np.abs(self._signatures - _signature(picture)).mean(axis=(1, 2, 3))


def _signature(picture: np.ndarray) -> np.ndarray:
    rows, columns = _SIGNATURE
    small = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# The processor


def _processor(case: Case, expected: _Expected) -> Iterator[str]:
    true = expected.truth
    pictures, metadata, damage = _process(case, do_sample_frames=False)
    yield from _damage(damage, case)
    yield from _every_frame(pictures, metadata.timestamps, expected)
    if not true.timed:
        return
    height, width = pictures[0].shape[:2]
    yield from _shape(width, height, expected)
    if case.damaged is not None:
        yield from _whole(metadata, expected)
    for start, end, fps, limit in _samplings(true):
        sampling = {"start": start, "end": end, "fps": fps, "num_frames": limit}
        description = ", ".join(f"{name}={value}" for name, value in sampling.items() if value is not None)
        pictures, other, _ = _process(case, **sampling)
        if case.damaged is None:  # count and end may depend on whether the reader meets the damage
            yield from _on_screen(description, pictures, other.timestamps, expected)
            continue
        for name in ("total_num_frames", "fps", "duration", "width", "height"):
            if getattr(other, name) != getattr(metadata, name):
                yield f"{description}: {name} {getattr(other, name)}, with every frame {getattr(metadata, name)}"
        moments = expected.moments(float(true.times[0]) if start is None else start, end, fps)
        yield from _same(description, pictures, other.timestamps, list(moments), limit, expected)


def _every_frame(pictures: list[np.ndarray], times: list[float], expected: _Expected) -> Iterator[str]:
    """Check that all frames come once, in order, at their times."""
    true = expected.truth
    if expected.case.damaged is None:  # a frame that can't be decoded may be counted and repeat the previous frame
        shown = [(picture, time) for index, (picture, time) in enumerate(zip(pictures, times, strict=True))
                 if not index or time != times[index - 1] or (picture != pictures[index - 1]).any()]  # fmt: skip
        pictures, times = [picture for picture, _ in shown], [time for _, time in shown]
        if not true.timed:
            if not all(expected.is_frame(picture, range(len(true.times))) for picture in pictures):
                yield "every frame: a picture that decoding from the start does not give"
            return
    if len(pictures) != len(true.times):
        yield f"every frame: {len(pictures)} frames, expected {len(true.times)}"
        return
    for index, (picture, time) in enumerate(zip(pictures, times, strict=True)):
        if not expected.is_frame(picture, {index}):
            like = expected.looks_like(picture)
            yield f"every frame: picture {index} is not that of decoding from the start, it is like {like}"
            return
        if expected.truth.timed and abs(time - true.times[index]) > true.margin:
            yield f"every frame: frame {index} at {time} s, expected {float(true.times[index]):.6f}"
            return


def _on_screen(description: str, pictures: list[np.ndarray], times: list[float], expected: _Expected) -> Iterator[str]:
    """Check that each picture is the one that decoding from the start shows at its time."""
    for picture, time in zip(pictures, times, strict=True):
        if not expected.is_frame(picture, expected.truth.may_be_on_screen(time)):
            yield f"{description}: at {time} s the picture of frame {expected.looks_like(picture)}"
            return


def _process(case: Case, **settings: Any) -> tuple[list[np.ndarray], Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = TS2NetVideoProcessor(**_AS_DECODED)(str(case.path), return_metadata=True, **settings)
    frames = result["pixel_values_videos"][0].permute(0, 2, 3, 1).numpy().astype(np.uint8)
    return list(frames), result["video_metadata"][0], [str(warning.message) for warning in caught]


def _samplings(true: Truth) -> Iterator[tuple[float | None, float | None, float, int]]:
    """Yield start, end, frames per second and the maximum number of frames of each sampling to check."""
    first, length = float(true.times[0]), float(true.times[-1] - true.times[0])
    yield None, None, 1.0, 12
    yield None, None, 3.0, 7
    for share in (0.0, 0.31, 0.77, 1.0):
        moment = round(first + share * length, 3)
        yield moment, moment, 1.0, 12
    yield round(first + 0.2 * length, 2), round(first + 0.6 * length, 2), 2.0, 20


def _same(
    description: str,
    pictures: list[np.ndarray],
    times: list[float],
    moments: list[tuple[float, bool]],
    limit: int,
    expected: _Expected,
) -> Iterator[str]:
    """Check that frames are those on screen at the moments. Moments that may be after the end may be missing.

    If there are more moments than the limit, they are thinned out evenly from the first to the last.
    """
    certain = sum(not may_be_over for _, may_be_over in moments)
    first_complaint = f"{len(pictures)} frames, expected {min(certain, limit)}"
    for count in range(max(certain, 1), len(moments) + 1):
        indices = range(count) if count <= limit else np.linspace(0, count - 1, limit, dtype=int).tolist()
        if len(indices) != len(pictures):
            continue
        shown = zip(indices, pictures, times, strict=True)
        complaint = next(filter(None, (_wrong_at(moments[index][0], *frame, expected) for index, *frame in shown)), "")
        if not complaint:
            return
        if "expected" in first_complaint:
            first_complaint = complaint
    yield f"{description}: {first_complaint}"


def _wrong_at(moment: float, picture: np.ndarray, time: float, expected: _Expected) -> str:
    true = expected.truth
    indices = true.may_be_on_screen(moment)
    on_screen = " or ".join(f"frame {index} of {float(true.times[index]):.6f} s" for index in sorted(indices))
    if all(abs(time - true.times[index]) > true.margin for index in indices):
        return f"at {moment:.6f} s the frame of {time} s, on screen is {on_screen}"
    if not expected.is_frame(picture, indices):
        return f"at {moment:.6f} s the picture of frame {expected.looks_like(picture)}, on screen is {on_screen}"
    return ""


def _shape(width: int, height: int, expected: _Expected) -> Iterator[str]:
    """Check that pixels are square."""
    rows, columns = expected.truth.pictures[0].shape[:2]
    ratio = columns * expected.truth.aspect / rows
    if (width, height) == (columns, rows) and expected.truth.aspect == 1:
        return
    if abs(width - height * ratio) > max(1, ratio) or width < columns * 0.49 or height < rows * 0.49:
        yield f"{width}x{height} pixels, expected the shape {float(ratio):.3f}:1 of {columns}x{rows} as shown"


def _whole(metadata: Any, expected: _Expected) -> Iterator[str]:
    """Check the number of frames, the duration and the rate."""
    true = expected.truth
    if metadata.total_num_frames != len(true.times):
        yield f"total_num_frames {metadata.total_num_frames}, expected {len(true.times)}"
    if abs(metadata.duration - float(true.end)) > float(expected.tolerance):
        yield f"duration {metadata.duration}, expected {float(true.end):.6f}"
    count = len(true.times)
    if count == 1:
        return
    span = float(true.times[-1] - true.times[0])  # with or without the duration of the last frame
    longest = max(span, float(true.end - true.times[0])) + float(expected.tolerance)
    least, most = min((count - 1.5) / max(span, 1e-6), count / longest), count / max(span, 1e-6)
    if not least / 1.02 <= metadata.fps <= most * 1.02:
        yield f"fps {metadata.fps}, expected {least:.4f} to {most:.4f}"


def _damage(messages: list[str], case: Case) -> Iterator[str]:
    if case.damaged is False and messages:
        yield f"a healthy file, warned of as: {messages[0].partition(': ')[2]}"
    if case.damaged is True and not messages:
        yield "no word of the damage"


# ---------------------------------------------------------------------------------------------------------------------
# Search


def _stream(case: Case, expected: _Expected) -> Iterator[str]:
    true = expected.truth
    span = float(true.end - true.times[0])
    moments = sorted(
        {round(float(true.times[0]) + span * number / _MOMENTS, 3) for number in range(_MOMENTS)}
        | {float(number) for number in range(int(min(true.end, 10)))}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = list(stream_video(str(case.path), lambda duration: moments))
    yield from _damage([str(warning.message) for warning in caught], case)
    if not true.timed:
        return
    if case.damaged is None:
        times = [frame.timestamp for frame in frames]
        yield from _on_screen("stream", [frame.rgb.numpy() for frame in frames], times, expected)
        return
    missing = [moment for moment in moments if moment not in {frame.moment for frame in frames}]
    if any(moment < float(true.end - expected.tolerance) for moment in missing):
        yield f"no frame for the moment {missing[0]}"
    for frame in frames:
        wrong = _wrong_at(frame.moment, frame.rgb.numpy(), frame.timestamp, expected)
        if wrong:
            yield wrong
            return


def _windows(case: Case, expected: _Expected) -> Iterator[str]:
    true = expected.truth
    file = VideoFile(case.path.name, "1", str(case.path), 0, case.path.stat().st_size)
    step = float(max(1, true.end // 100))
    settings = WindowSettings(length=2 * step, step=step, fps=2 / step)
    processor = TS2NetVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    *windows, end = decode_windows(file, settings, processor)
    if not isinstance(end, EndOfVideo):
        yield f"{end.reason if hasattr(end, 'reason') else end}"
        return
    yield from _damage([f"x: {end.damage}"] if end.damage else [], case)
    if case.damaged is None or not true.timed:
        return
    if abs(end.duration - float(true.end)) > float(expected.tolerance):
        yield f"lasts {end.duration} s, expected {float(true.end):.6f}"
    for window in windows:
        assert isinstance(window, DecodedWindow)
        for number, time in enumerate(window.frame_times):
            moment = window.start + number / settings.fps
            indices = true.may_be_on_screen(moment)
            if all(abs(time - true.times[index]) > true.margin for index in indices):
                index = min(indices)
                yield (
                    f"window from {window.start} s: at {moment} s the frame of {time} s, on screen is frame {index} "
                    f"of {float(true.times[index]):.6f} s"
                )
                return


# ---------------------------------------------------------------------------------------------------------------------
# Re-encoding


def _reencoded(case: Case, expected: _Expected) -> Iterator[str]:
    true = expected.truth
    first = float(true.times[0])
    later = round(first + 0.4 * (float(true.times[-1]) - first), 2)
    for start in (None, later) if true.timed else (None,):
        prefix = f"start={start}: " if start is not None else ""
        result = reencode_video(str(case.path), start=start)
        if start is None:
            yield from _damage([f"x: {result.damage}"] if result.damage else [], case)
        if case.damaged is None or not true.timed:
            continue
        begin = first if start is None else start
        times, pictures, end = _plain(result.video)
        if len(times) > len(true.times):
            yield f"{prefix}{len(times)} frames of {len(true.times)}: more than the file holds"
        lasts = float(true.end) - begin
        if abs(end - lasts) > 1 / _REENCODED_FPS + float(expected.tolerance):
            yield f"{prefix}lasts {end:.3f} s, expected {lasts:.3f}"
        certain = max(lasts - float(expected.tolerance), float(true.times[-1]) - begin)
        for number in _some(int(certain * _REENCODED_FPS)):
            index = max((k for k, time in enumerate(times) if time <= number / _REENCODED_FPS + 1e-3), default=0)
            on_screen = true.may_be_on_screen(begin + number / _REENCODED_FPS)
            if not expected.resembles(pictures[index], on_screen):
                like = expected.looks_like(pictures[index])
                yield (
                    f"{prefix}{number}/3 s after the start the picture of frame {like}, "
                    f"on screen is {sorted(on_screen)}"
                )
                break


def _some(count: int) -> list[int]:
    """Return at most 100 numbers below a count, spread evenly."""
    return list(range(count)) if count <= 100 else np.linspace(0, count - 1, 100, dtype=int).tolist()


def _plain(video: bytes) -> tuple[list[float], list[np.ndarray], float]:
    """Read times, pictures and end of a re-encoded file with a plain loop."""
    times: list[float] = []
    pictures: list[np.ndarray] = []
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(float(frame.pts * frame.time_base))
            pictures.append(frame.to_ndarray(format="rgb24"))
        assert stream.duration is not None
        assert stream.time_base is not None
        end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return times, pictures, end
