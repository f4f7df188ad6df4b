"""Cut a moment of a video, with its sound, into a separate file without re-encoding.

Packets are copied, so the file begins at a keyframe before the moment. This is the last keyframe if the container can
seek exactly.
"""

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Discard

from ..files import write_whole
from ..video_container_ts2net import MAX_PIXELS, VideoReader
from ..video_source_ts2net import VideoDecodingError, VideoSource, open_source

# Container used if the source's container can't be written or can't hold the codec. Matroska holds nearly any codec.
_FALLBACK = ".mkv"
_LEADS = (0, 2, 10, 60)  # seconds before the moment to seek to
_TOLERANCE = Fraction(1, 100)  # seconds
_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"}


def cut_video(source: VideoSource, target: str | os.PathLike[str], start: float, end: float) -> Path:
    """Write a moment of a video to a file.

    Args:
        source: The video.
        target: Path of the file, with the suffix of the source. If that container can't hold the streams, the file is
            written as Matroska with the suffix `.mkv`.
        start: Second of the video at which the moment begins.
        end: Second at which it ends.

    Returns:
        The path of the written file.

    Raises:
        VideoDecodingError: If the source is no video, has no frame in the moment, or can't be copied.
        OSError: If the file can't be written.
    """
    target = Path(target)
    with open_source(source) as file:
        suffixes = [target.suffix.lower()] if target.suffix.lower() in _MUXERS else []
        problem: Exception | None = None
        for suffix in dict.fromkeys([*suffixes, _FALLBACK]):
            with VideoReader(file, MAX_PIXELS) as reader:
                try:
                    content = _copied(reader, _MUXERS[suffix], start, end)
                except (av.FFmpegError, ValueError) as error:  # ValueError: the container can't hold the codec
                    problem = error
                    continue
            if not content:
                raise VideoDecodingError(f"{file.name}: nothing of it lies between {start:g} s and {end:g} s")
            path = target.with_suffix(suffix)
            write_whole(path, content)
            return path
        reason = getattr(problem, "strerror", None) or str(problem)
        raise VideoDecodingError(f"{file.name}: its streams can't be copied ({reason})") from problem


def _copied(reader: VideoReader, muxer: str, start: float, end: float) -> bytes:
    """Return the bytes of a file with the moment, or empty bytes if the video has no frame in the moment."""
    buffer = io.BytesIO()
    container = reader.container
    sound = container.streams.best("audio")
    streams = [reader.stream, *([] if sound is None else [sound])]
    for stream in streams:
        stream.discard = Discard.default
    origin = Fraction(reader.start() or 0)
    _seek(reader, streams, origin + Fraction(start))
    reaches = last_shown = Fraction(0)
    with av.open(buffer, "w", format=muxer) as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in streams}
        first: Fraction | None = None
        for packet in _packets(container, streams):
            assert packet.dts is not None
            assert packet.time_base is not None
            seconds = packet.dts * packet.time_base
            is_picture = packet.stream.index == reader.stream.index
            shown = seconds if packet.pts is None else packet.pts * packet.time_base
            if seconds - origin >= end:
                if is_picture and seconds > last_shown:
                    break
                if not is_picture or shown > last_shown:  # other pictures are shown before a copied picture
                    continue
            if first is None:
                if not is_picture:  # skip sound before the first picture
                    continue
                first = seconds
            elif seconds < first:
                continue
            shift = round(first / packet.time_base)
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            if is_picture:
                last_shown = max(last_shown, shown)
                reaches = max(reaches, seconds - origin + (packet.duration or 1) * packet.time_base)
            packet.stream = copies[packet.stream.index]
            output.mux(packet)
    return buffer.getvalue() if reaches > start else b""


def _seek(reader: VideoReader, streams: list[av.stream.Stream], moment: Fraction) -> None:
    """Seek to a video packet at or before a moment, in seconds of the container's clock."""
    container = reader.container
    time_base = Fraction(reader.stream.time_base or 1)
    for lead in _LEADS:  # in some containers a seek ends slightly after the requested time
        position = int(max(moment - lead, Fraction(0)) / time_base)
        container.seek(position, stream=reader.stream)
        packets = (packet for packet in _packets(container, streams) if packet.stream.index == reader.stream.index)
        packet = next(packets, None)
        if packet is not None and (packet.pts or packet.dts or 0) * time_base <= moment + _TOLERANCE:
            break
    container.seek(position, stream=reader.stream)


def _packets(container: av.container.InputContainer, streams: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """Yield the packets from the current position on, each with its decoding time.

    Matroska stores no decoding times, and FFmpeg computes none for the first packets after a seek. The times of these
    packets are counted back from the first known decoding time.
    """
    waiting: dict[int, list[av.Packet]] = {stream.index: [] for stream in streams}
    for packet in container.demux(streams):
        if not packet.size or packet.time_base is None:
            continue
        undated = waiting[packet.stream.index]
        if packet.dts is None:
            undated.append(packet)
            continue
        step = packet.duration or 1
        for number, earlier in enumerate(undated):
            earlier.dts = packet.dts - (len(undated) - number) * step
            yield earlier
        undated.clear()
        yield packet
