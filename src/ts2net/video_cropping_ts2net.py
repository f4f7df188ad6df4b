"""Cropping that a container declares for its video: Matroska's pixel crop and MP4's clean aperture.

FFmpeg reads both, but PyAV doesn't expose them, so the few boxes and elements that contain them are parsed here.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .video_source_ts2net import SharedFile

_MAX_CHILDREN = 10_000  # per box or element, more than any file has before its pictures
_SEGMENT, _TRACKS, _ENTRY, _VIDEO, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675
_TRACK_TYPE, _BOTTOM, _TOP, _LEFT, _RIGHT = 0x83, 0x54AA, 0x54BB, 0x54CC, 0x54DD
_VISUAL_ENTRY_BYTES = 78  # size of a visual sample entry before its boxes


class Cropping(NamedTuple):
    """Pixels that are cut off at each side of a picture as it is stored."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def fits(self, width: int, height: int) -> bool:
        """Whether the cropping leaves any pixels of a picture of this size."""
        return min(self) >= 0 and self.left + self.right < width and self.top + self.bottom < height


class _Part(NamedTuple):
    """A box or an element: its kind, and the positions where its content begins and ends."""

    kind: int | bytes
    begin: int
    end: int


def cropping_in_mp4(file: SharedFile, track_id: int, width: int, height: int) -> Cropping:
    """Read the clean aperture of a track with pictures of this size as a cropping, zeros if there is none."""
    for movie in _boxes(file, 0, file.size, b"moov"):
        for track in _boxes(file, movie.begin, movie.end, b"trak"):
            if track_id not in (_track_id(file, header) for header in _boxes(file, track.begin, track.end, b"tkhd")):
                continue
            table = [track]
            for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
                table = [box for parent in table for box in _boxes(file, parent.begin, parent.end, kind)]
            for entries in table:
                for entry in _boxes(file, entries.begin + 8, entries.end):
                    for box in _boxes(file, entry.begin + _VISUAL_ENTRY_BYTES, entry.end, b"clap"):
                        return _clean_aperture(file.read_at(box.begin, 32), width, height)
    return Cropping()


def cropping_in_matroska(file: SharedFile, number: int) -> Cropping:
    """Read the cropping of a video track, given by its index among the video tracks, zeros if there is none."""
    for segment in _elements(file, 0, file.size, _SEGMENT):
        for tracks in _elements(file, segment.begin, segment.end, _TRACKS):
            videos = [
                video
                for entry in _elements(file, tracks.begin, tracks.end, _ENTRY)
                if any(_number(file, part) == 1 for part in _elements(file, entry.begin, entry.end, _TRACK_TYPE))
                for video in _elements(file, entry.begin, entry.end, _VIDEO)
            ]
            if number < len(videos):
                sizes = {
                    part.kind: _number(file, part)
                    for part in _elements(file, videos[number].begin, videos[number].end)
                    if part.kind in (_TOP, _BOTTOM, _LEFT, _RIGHT)
                }
                return Cropping(*(sizes.get(side, 0) for side in (_TOP, _BOTTOM, _LEFT, _RIGHT)))
    return Cropping()


def _boxes(file: SharedFile, begin: int, end: int, kind: bytes | None = None) -> Iterator[_Part]:
    """Yield the boxes of an MP4 between two positions, all of them or only those of one kind."""
    for _ in range(_MAX_CHILDREN):
        head = file.read_at(begin, 16)
        if begin + 8 > end or len(head) < 8:
            return
        size, name, header = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, header = int.from_bytes(head[8:], "big"), 16
        elif size == 0:  # the box extends to the end
            size = end - begin
        if size < header:
            return
        if kind in (None, name):
            yield _Part(name, begin + header, min(begin + size, end))
        begin += size


def _track_id(file: SharedFile, header: _Part) -> int:
    data = file.read_at(header.begin, 24)
    position = 20 if data[:1] == b"\x01" else 12  # after the version and two times of 8 or 4 bytes
    return int.from_bytes(data[position : position + 4], "big")


def _clean_aperture(data: bytes, width: int, height: int) -> Cropping:
    """Convert a clean aperture, stored as four fractions (width, height, offset of the centre), to a cropping."""
    if len(data) < 32:
        return Cropping()
    fractions = struct.unpack(">IIIIiIiI", data)
    if 0 in fractions[1::2]:
        return Cropping()
    clean_width, clean_height, right, down = (n / d for n, d in zip(fractions[::2], fractions[1::2], strict=True))
    left, top = round((width - clean_width) / 2 + right), round((height - clean_height) / 2 + down)
    return Cropping(top, height - round(clean_height) - top, left, width - round(clean_width) - left)


def ebml_size(data: bytes) -> tuple[int | None, int]:
    """Read the size of a Matroska element, `None` if it is unknown, and the number of bytes that store it.

    Args:
        data: Bytes that begin with the size.
    """
    length = 9 - (data[0] if data else 0).bit_length()
    most = (1 << 7 * length) - 1
    size = int.from_bytes(data[:length], "big") & most
    return None if size == most else size, length


def _elements(file: SharedFile, begin: int, end: int, kind: int | None = None) -> Iterator[_Part]:
    """Yield the Matroska elements between two positions, all or only those of one kind, up to the first cluster."""
    for _ in range(_MAX_CHILDREN):
        head = file.read_at(begin, 12)
        if begin >= end or not head or not head[0]:
            return
        id_bytes = 9 - head[0].bit_length()
        name = int.from_bytes(head[:id_bytes], "big")
        size_head = head[id_bytes:]
        if id_bytes > 4 or name == _CLUSTER or not size_head or not size_head[0]:
            return
        size, size_bytes = ebml_size(size_head)
        content = begin + id_bytes + size_bytes
        following = end if size is None else content + size
        if kind in (None, name):
            yield _Part(name, content, min(following, end))
        begin = following


def _number(file: SharedFile, part: _Part) -> int:
    return int.from_bytes(file.read_at(part.begin, min(part.end - part.begin, 8)), "big")
