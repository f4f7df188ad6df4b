"""Read the words of subtitles with FFmpeg, from a file beside a video or from the streams inside it.

Files are untrusted. So they are read in separate processes, the size of a file and the number and length of its cues
are limited, and all markup is removed.
"""

import html
import io
import re
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.stream import Discard
from av.subtitles.stream import SubtitleStream

from ..errors import one_line
from ..video_container_ts2net import MAX_PIXELS, VideoReader
from ..video_source_ts2net import open_source
from .records import Cue, Track
from .subtitle_files import SubtitleSource

MAX_BYTES = 2**24  # of a file; the subtitles of a film have about 100,000
MAX_CUES = 100_000  # of a stream
MAX_TRACKS = 64
_MAX_CHARACTERS = 2000  # of a cue
_MAX_TOTAL = 2**24  # characters of a file
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_FORMATS = {".srt": "srt", ".vtt": "webvtt"}
_FIELDS_BEFORE_TEXT = 8  # in a dialogue line of ASS, the format to which all subtitles are decoded
_LINE_BREAK = re.compile(r"\\[Nnh]")
_MARKUP = re.compile(r"\{[^}]*\}|<[^<>]*>")


class SubtitleError(ValueError):
    """Subtitles that can't be read."""


def read_tracks(source: SubtitleSource) -> Iterator[list[Track]]:
    """Read the subtitles of a source, and yield one list of all tracks that have words.

    Cues outside the clip are left out, if the video is a clip of a longer one.

    Raises:
        SubtitleError: If the subtitles can't be read, or exceed a limit.
        OSError: If the file can't be opened.
    """
    try:
        tracks = _tracks_inside(source) if source.beside is None else [_track_of_file(source)]
    except av.FFmpegError as error:
        raise SubtitleError(f"can't be read ({error.strerror or one_line(error)})") from error
    start, end = source.video.start or 0.0, source.video.end or float("inf")
    parts = (tuple(cue for cue in track if start <= cue.start < end) for track in tracks)
    yield list(dict.fromkeys(part for part in parts if part))


def decode_text(content: bytes) -> str:
    """Decode a subtitle file: as UTF-16 if it begins with its BOM, as UTF-8 if it is valid, else as Windows-1252."""
    if content.startswith(_UTF_16):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _track_of_file(source: SubtitleSource) -> Track:
    with source.open() as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SubtitleError(f"it has more than {MAX_BYTES:,} bytes")
    text = decode_text(content)
    with av.open(io.BytesIO(text.encode()), "r", format=_FORMATS[source.name[-4:].lower()]) as container:
        (track,) = _read(container, [container.streams.subtitles[0]], 0.0)
    if not track:
        raise SubtitleError("it holds no words with a time")
    return track


def _tracks_inside(source: SubtitleSource) -> list[Track]:
    with source.video.open() as opened, open_source(opened) as file, VideoReader(file, MAX_PIXELS) as reader:
        container = reader.container
        streams = [
            stream
            for stream in container.streams.subtitles
            if stream.codec_context is not None and stream.codec_context.codec.text_sub
        ]
        if not streams:
            return []
        reader.stream.discard = Discard.all
        for stream in streams[:MAX_TRACKS]:
            stream.discard = Discard.default
        return _read(container, streams[:MAX_TRACKS], reader.start() or 0.0)


def _read(container: InputContainer, streams: list[SubtitleStream], origin: float) -> list[Track]:
    """Read the cues of some streams.

    Args:
        container: The container.
        streams: Subtitle streams of text.
        origin: Second of the container's clock at which the video starts.
    """
    cues: dict[int, list[Cue]] = {stream.index: [] for stream in streams}
    total = 0
    for packet in _packets(container, streams):
        if packet.pts is None or packet.time_base is None:
            continue
        text = _packet_text(packet)
        of_stream = cues[packet.stream.index]
        if text:
            of_stream.append(Cue(max(0.0, float(packet.pts * packet.time_base) - origin), text))
        total += len(text)
        if len(of_stream) > MAX_CUES or total > _MAX_TOTAL:
            raise SubtitleError(f"more than {MAX_CUES:,} cues, or {_MAX_TOTAL:,} characters")
    return [tuple(sorted(of_stream, key=lambda cue: cue.start)) for of_stream in cues.values()]


def _packets(container: InputContainer, streams: list[SubtitleStream]) -> Iterator[av.Packet]:
    """Yield the packets of some streams; for a damaged file, those that can be read."""
    count = 0
    try:
        for packet in container.demux(streams):
            yield packet
            count += 1
    except av.FFmpegError:
        if not count:
            raise


def _packet_text(packet: av.Packet) -> str:
    """Return the words of a packet in one line, without markup; empty if the packet is damaged."""
    try:
        subtitles = packet.stream.codec_context.decode2(packet)
    except av.FFmpegError:
        return ""
    lines = [_plain(getattr(subtitle, "ass", b"")) for subtitle in subtitles or ()]
    return " ".join(" ".join(lines).split())[:_MAX_CHARACTERS]


def _plain(dialogue: bytes) -> str:
    fields = dialogue.decode("utf-8", "replace").split(",", _FIELDS_BEFORE_TEXT)
    text = fields[-1] if len(fields) > _FIELDS_BEFORE_TEXT else ""
    return html.unescape(_MARKUP.sub("", _LINE_BREAK.sub(" ", text))).replace("\0", "")
