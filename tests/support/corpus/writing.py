"""Writing of video files: numbered frames at given times, remuxing packet by packet, and editing of bytes."""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

MILLISECONDS = Fraction(1, 1000)

# Fast, single-threaded, and with the same result on every machine.
_ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "x264-params": "cpu-independent=1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
_BITS = 16


def numbered(number: int, width: int, height: int) -> np.ndarray:
    """Draw a picture `(height, width, 3)` uint8 that identifies a number, even after lossy coding.

    It is a grid of 4 x 4 fields, each bright or dark for a bit of the number, and a corner shows its orientation.
    """
    bits = [(number >> bit ^ number >> (bit + 1)) & 1 for bit in range(_BITS)]  # Gray code
    fields = np.array(bits, dtype=np.uint8).reshape(4, 4)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    bright = fields[np.ix_(rows, columns)]
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[..., 0] = 50 + 150 * bright
    picture[..., 1] = 60 + 140 * bright
    picture[..., 2] = 90 + 90 * bright
    picture[: max(height // 8, 1), : max(width // 8, 1)] = (230, 20, 30)
    return picture


def even(count: int, fps: Fraction | float = 25, start: float = 0) -> list[float]:
    """Return the times of `count` frames at a constant rate, in seconds."""
    return [start + number / fps for number in range(count)]  # type: ignore[misc]


def write(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    sizes: Sequence[tuple[int, int]] = (),
    pix_fmt: str = "yuv420p",
    time_base: Fraction = MILLISECONDS,
    rate: Fraction | int = 25,
    options: dict[str, str] | None = None,
    container: str | None = None,
    muxer: dict[str, str] | None = None,
    numbers: Sequence[int] | None = None,
    rotation: int = 0,
    hflip: bool = False,
    aspect: Fraction | None = None,
    sound: tuple[float, float] | None = None,
    metadata: dict[str, str] | None = None,
    extra: Callable[[Any], None] = lambda output: None,
) -> Path:
    """Write one video stream, a numbered frame at each of `times`.

    Args:
        path: Output file.
        times: Seconds, rounded to `time_base`.
        codec: A PyAV encoder.
        size: Width and height.
        sizes: Size of each frame, if it changes; only for codecs that allow it.
        pix_fmt: Pixel format of the stream.
        time_base: Time base of the stream.
        rate: Declared frames per second.
        options: Options of the encoder.
        container: Container format; from the file's extension if None.
        muxer: Options of the muxer.
        numbers: Numbers that the frames show; 1, 2, 3, ... if None.
        rotation: Degrees, as a display matrix.
        hflip: Mirror the display matrix.
        aspect: Sample aspect ratio.
        sound: First and last second of a sound track, if there is one.
        metadata: Metadata of the file.
        extra: Called with the open output, to add streams before the first packet.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(
            codec, rate=rate, options={"threads": "1"} | _ENCODER_OPTIONS.get(codec, {}) | (options or {})
        )
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        encoder = stream.codec_context
        encoder.time_base = time_base
        if aspect:
            encoder.sample_aspect_ratio = aspect
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        tone = output.add_stream("aac", rate=16000, layout="mono") if sound else None
        extra(output)
        if tone is not None and sound is not None:
            _write_sound(output, tone, *sound)
        for index, time in enumerate(times):
            width, height = sizes[index] if sizes else size
            number = numbers[index] if numbers else index + 1
            frame = picture_frame(number, width, height, pix_fmt)
            frame.pts, frame.time_base = round(time / time_base), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def picture_frame(number: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """Draw the numbered picture as a frame."""
    picture = numbered(number, width, height)
    if pix_fmt == "rgba":
        alpha = np.full((height, width, 1), 255, dtype=np.uint8)
        alpha[:, width // 2 :] = 100
        return av.VideoFrame.from_ndarray(np.concatenate([picture, alpha], axis=2), format="rgba")
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)


def _write_sound(output: Any, stream: Any, begin: float, end: float) -> None:
    rate, size = 16000, 1024
    for first in range(round(begin * rate), round(end * rate), size):
        samples = (np.sin(np.arange(first, first + size) / 8) * 0.3).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def add_cover(output: Any) -> None:
    """Add a cover picture to a file that is being written, as in music and films."""
    cover = output.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
    cover.disposition = av.stream.Disposition.attached_pic
    output.start_encoding()
    packet = av.Packet(jpeg(9999, (320, 240)))
    packet.stream, packet.pts, packet.dts = cover, 0, 0
    output.mux(packet)


def add_attachment(output: Any) -> None:
    """Add a cover picture as a Matroska attachment, which FFmpeg reads as a video stream."""
    output.add_attachment("cover.jpg", "image/jpeg", jpeg(9999, (320, 240)))


def add_small_stream(output: Any) -> None:
    """Add a second video stream with fewer pixels than any other."""
    stream = output.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 25)
    for index in range(5):
        frame = picture_frame(9000 + index, 32, 16, "yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def jpeg(number: int, size: tuple[int, int] = (64, 48), **settings: Any) -> bytes:
    """Encode the numbered picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(numbered(number, *size)).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def remux(
    source: Path,
    target: Path,
    *,
    edit: Callable[[list[av.Packet]], list[av.Packet]] = lambda packets: packets,
    container: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Copy the packets of the only video stream, after `edit` has changed their list in decoding order."""
    with av.open(str(source)) as input, av.open(str(target), "w", format=container, options=muxer or {}) as output:
        stream = input.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in edit([packet for packet in input.demux(stream) if packet.size]):
            packet.stream = copy
            output.mux(packet)
    return target


def packets_of(path: Path) -> list[bytes]:
    """Return the bytes of each packet of the first video stream."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def cut_bytes(path: Path, share: float) -> Path:
    """Keep the first `share` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


# ---------------------------------------------------------------------------------------------------------------------
# MP4 boxes


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each box."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, position + 8)[0], 16
        size = size or len(data) - position
        yield kind, data[position + head : position + size]
        position += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def change_box(data: bytes, names: Sequence[str], change: Callable[[bytes], bytes], nth: int = 0) -> bytes:
    """Change the content of the boxes with these names, from the outermost in, in the `nth` track.

    Only for files whose index is after the pictures, as the muxer writes it, so that the pictures do not move.
    """
    output, tracks = io.BytesIO(), -1
    name, *inner = names
    for kind, content in _boxes(data):
        tracks += kind == b"trak"
        if kind == name.encode() and (kind != b"trak" or tracks == nth):
            content = change_box(content, inner, change, nth) if inner else change(content)
        output.write(_box(kind, content))
    return output.getvalue()


def set_edits(path: Path, edits: Sequence[tuple[float, float]], track: int = 0) -> Path:
    """Replace the edit list of an MP4 file.

    Args:
        path: The file.
        edits: Duration in seconds and start in the media of each edit; a start of -1 is an empty edit.
        track: Index of the track.
    """
    data = path.read_bytes()
    movie, media = _timescale(data, ["moov", "mvhd"]), _timescale(data, ["moov", "trak", "mdia", "mdhd"], track)
    rows = [
        struct.pack(">IiHH", round(seconds * movie), -1 if begin < 0 else round(begin * media), 1, 0)
        for seconds, begin in edits
    ]
    content = struct.pack(">II", 0, len(rows)) + b"".join(rows)
    path.write_bytes(change_box(data, ["moov", "trak", "edts", "elst"], lambda old: content, track))
    return path


def _timescale(data: bytes, names: Sequence[str], track: int = 0) -> int:
    timescales: list[int] = []

    def note(content: bytes) -> bytes:
        timescales.append(struct.unpack_from(">I", content, 20 if content[0] else 12)[0])
        return content

    change_box(data, names, note, track)
    return timescales[0]


# ---------------------------------------------------------------------------------------------------------------------
# Annex B units


def insert_before_slices(data: bytes, unit: bytes) -> bytes:
    """Insert an H.264 unit before the first slice of every picture of a raw stream with access unit delimiters."""
    output = bytearray()
    waiting = False
    for piece in data.split(b"\x00\x00\x00\x01"):
        for number, part in enumerate(piece.split(b"\x00\x00\x01")):
            if not part:
                continue
            kind = part[0] & 31
            if kind == 9:
                waiting = True
            if waiting and 1 <= kind <= 5:
                output += b"\x00\x00\x00\x01" + unit
                waiting = False
            output += (b"\x00\x00\x01" if number else b"\x00\x00\x00\x01") + part
    return bytes(output)


# ---------------------------------------------------------------------------------------------------------------------
# MPEG-TS packets


def without_times(data: bytes, keep: int) -> bytes:
    """Remove the times of all pictures of an MPEG-TS except every `keep`-th. A picture is a PES packet."""
    output, pictures = bytearray(data), 0
    for begin in range(0, len(data), 188):
        starts, adapted = data[begin + 1] & 0x40, data[begin + 3] & 0x20
        position = begin + 4 + (1 + data[begin + 4] if adapted else 0)
        if starts and data[position : position + 4] == b"\x00\x00\x01\xe0":
            if pictures % keep:
                length = data[position + 8]
                output[position + 7] &= 0x3F
                output[position + 9 : position + 9 + length] = b"\xff" * length  # stuffing
            pictures += 1
    return bytes(output)


def remux_with_a_late_packet(source: Path, target: Path) -> Path:
    """Copy a file, and delay its hundred-and-first packet by ten thousand hours."""

    def put_off(packets: list[av.Packet]) -> list[av.Packet]:
        packets[100].pts += round(36_000_000 / packets[100].time_base)
        return packets

    return remux(source, target, edit=put_off)
