"""Small video files for tests, ordinary and unusual, written with PyAV.

The frames show a moving texture, so that no two frames are equal. Files are the same on every machine and in every
run.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.subtitles.subtitle import SubtitleSet


def texture(index: int, width: int, height: int) -> np.ndarray:
    """Draw frame `index`, `(height, width, 3)` uint8: drifting blurred noise under a moving bright bar."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = np.roll(noise // 2 + np.roll(noise, 1, axis=1) // 2, (index, 2 * index), axis=(0, 1))
    image[:, (3 * index) % width] = (255, (index * 29) % 256, 40)
    return image


def write_video(
    path: Path | io.BytesIO,
    *,
    frames: int = 48,
    size: tuple[int, int] = (64, 48),
    fps: Fraction | int = 24,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: float = 0,
    hflip: bool = False,
    frame_attributes: dict[str, Any] | None = None,
) -> Path | io.BytesIO:
    """Write one video stream.

    Args:
        path: output file.
        frames: number of frames.
        size: width and height.
        fps: nominal rate.
        codec: a PyAV encoder.
        pix_fmt: pixel format of the stream.
        options: options of the encoder.
        container: container format; from the file's extension if None.
        container_options: options of the muxer.
        pts: presentation times in `time_base`, instead of an even rate.
        time_base: time base of `pts`.
        rotation: degrees, written as a display matrix.
        hflip: mirror the display matrix.
        frame_attributes: attributes to set on every frame before encoding, such as `colorspace`.
    """
    width, height = size
    target = path if isinstance(path, io.BytesIO) else str(path)
    with av.open(target, "w", format=container, options=container_options or {}) as output:
        repeatable = {"threads": "1", "x264-params": "cpu-independent=1"} if codec == "libx264" else {}
        stream = output.add_stream(codec, rate=fps, options=repeatable | (options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base or 1 / Fraction(fps)
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(texture(index, width, height), format="rgb24").reformat(format=pix_fmt)
            for name, value in (frame_attributes or {}).items():
                setattr(frame, name, value)
            frame.pts = pts[index] if pts else index
            frame.time_base = stream.codec_context.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_streams(path: Path, *, cover_art: bool = False, videos: Iterable[tuple[int, int]] = ((64, 48),)) -> Path:
    """Write an MP4 with a second of sound, an optional cover picture, and a second of video for each size."""
    with av.open(str(path), "w") as output:
        cover = None
        if cover_art:
            cover = output.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
        sound = output.add_stream("aac", rate=16000)
        streams = []
        for width, height in videos:
            stream = output.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        if cover is not None:
            output.mux(cover.encode(av.VideoFrame.from_ndarray(texture(0, 320, 240), format="rgb24")))
            output.mux(cover.encode())
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        output.mux(sound.encode(samples))
        output.mux(sound.encode())
        for stream in streams:
            for index in range(24):
                picture = texture(index, stream.width, stream.height)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode())
    return path


def write_subtitled(path: Path, cues: Sequence[tuple[float, str]], *, frames: int = 48, fps: int = 4) -> Path:
    """Write a video with subtitles, each cue one second long: mov_text in MP4, SubRip in Matroska."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options={"threads": "1", "x264-params": "cpu-independent=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        words: Any = output.add_stream("mov_text" if path.suffix == ".mp4" else "subrip")
        words.time_base = Fraction(1, 1000)
        words.codec_context.subtitle_header = b"[Script Info]\n[V4+ Styles]\nFormat: Name\nStyle: Default\n[Events]\n"
        for index in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(texture(index, 64, 48), format="rgb24")))
        output.mux(stream.encode())
        for start, text in cues:
            line = SubtitleSet.create(f"0,0,Default,,0,0,0,,{text}".encode(), 0, 1000, int(start * 1000))
            packet = words.codec_context.encode_subtitle(line)
            packet.stream, packet.time_base = words, words.time_base
            packet.pts = packet.dts = int(start * 1000)
            packet.duration = 1000
            output.mux(packet)
    return path


def encoded(**settings: Any) -> bytes:
    """Return the bytes of the file that `write_video` writes with these settings."""
    buffer = io.BytesIO()
    write_video(buffer, **settings)
    return buffer.getvalue()


def decode_from_start(source: Any) -> list[av.VideoFrame]:
    """Decode every frame of a file with a plain PyAV loop that skips what can't be decoded, as a reference."""
    frames: list[av.VideoFrame] = []
    with av.open(source) as container:
        stream = container.streams.best("video")
        packets = container.demux(stream)
        packet: av.Packet | None
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packet = None
            with contextlib.suppress(av.FFmpegError):
                frames += stream.codec_context.decode(packet)
            if packet is None or packet.size == 0:
                return frames
