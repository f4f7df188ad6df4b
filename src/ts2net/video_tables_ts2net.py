"""Tables of a video's frames, created without decoding.

A table is only used if it passes its checks: the index of an MP4 header is compared with the last packets, and
presentation times are compared with the decoding order.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from .video_container_ts2net import MATROSKA, MOV, EntryPoint, TableError, VideoReader
from .video_timing_ts2net import Timeline, first_second

# Codecs for which decoding can start at a keyframe (in H.264 and HEVC, depending on its header).
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd"}
# The maximum number of pictures, at any level of H.264 or HEVC, that are decoded before a picture but shown after it.
# As many pictures may follow an HEVC keyframe and be shown before it, or follow the packet of the frame shown last.
_MAX_REORDERED = 16


@dataclass(frozen=True)
class FrameTable:
    """The timestamp of every frame in order of presentation, and a function that finds a frame's entry point."""

    pts: np.ndarray
    timeline: Timeline
    entry_point: Callable[[int], EntryPoint]


def table_from_index(reader: VideoReader) -> FrameTable | None:
    """Create the table from the index in an MP4 header, without reading more than the last packets.

    The index has decoding times. If they are evenly spaced, or the stream never reorders frames, they equal the
    presentation times except for an offset: as many distinct times as there are steps from the first to the last
    leave no gap. The last packets show which time is the last.
    """
    stream = reader.stream
    if reader.format != MOV or reader.codec not in _SEEKABLE_CODECS or stream.start_time is None:
        return None
    index = stream.index_entries
    entries = list(index)
    if not entries or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return None
    if any(entry.pos + entry.size > reader.file.size for entry in entries):  # a truncated file
        return None
    dts = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    steps = np.diff(dts)
    reorders = reader.decoder.reorder_depth > 0
    if (steps <= 0).any() or (reorders and (steps != steps[:1]).any()):
        return None
    pts = dts - dts[0] + stream.start_time

    tail = entries[-1 - _MAX_REORDERED :] if reorders else entries[-1:]
    last = _last_shown(reader, tail[0].timestamp, len(tail))
    if last is None or last.pts != pts[-1]:
        return None

    def entry_point(frame: int) -> EntryPoint:
        before = max(frame - _MAX_REORDERED, 0) if reader.codec == "hevc" else frame
        key = index.search_timestamp(entries[before].timestamp)
        if key < 0:
            raise TableError
        return EntryPoint(key, entries[key].timestamp)

    return FrameTable(pts, _timeline(reader, pts, last.duration), entry_point)


def table_from_packets(reader: VideoReader) -> FrameTable | None:
    """Create the table by reading every packet, without decoding any."""
    if reader.format not in (MOV, MATROSKA) or reader.codec not in _SEEKABLE_CODECS or reader.is_cut_off():
        return None
    shown: list[tuple[int, int]] = []  # timestamps and durations in decoding order
    entry_points: list[tuple[int, EntryPoint]] = []  # with their presentation times
    try:
        for packet in reader.packets():
            timestamp = packet.dts if reader.format == MOV else packet.pts
            if packet.pts is None or timestamp is None or packet.is_corrupt:
                return None
            if reader.is_entry_point(packet):
                entry_points.append((packet.pts, EntryPoint(len(shown), timestamp)))
            if not packet.is_discard:
                shown.append((packet.pts, packet.duration or 0))
    except av.FFmpegError:
        return None
    if not shown:
        return None
    decoded = np.array([pts for pts, _ in shown], dtype=np.int64)
    order = decoded.argsort(kind="stable")
    pts = decoded[order]
    # Times are wrong if they need more reordering than the decoder can do.
    reordered = _MAX_REORDERED if reader.decoder.reorder_depth else 0
    if (np.diff(pts) <= 0).any() or np.abs(order - np.arange(len(order))).max() > reordered:
        return None
    entry_points.sort(key=lambda item: item[0])
    starts = [start for start, _ in entry_points]

    def entry_point(frame: int) -> EntryPoint:
        position = bisect_right(starts, pts[frame]) - 1
        if position < 0:
            raise TableError
        return entry_points[position][1]

    return FrameTable(pts, _timeline(reader, pts, shown[order[-1]][1]), entry_point)


def _last_shown(reader: VideoReader, timestamp: int, count: int) -> av.Packet | None:
    """Return the packet shown last of the last `count` packets, or None if the file doesn't have that many."""
    try:
        packets = list(reader.packets_decoded_from(timestamp))
    except av.FFmpegError:
        return None
    by_time = {packet.pts: packet for packet in packets if packet.pts is not None and not packet.is_corrupt}
    return by_time[max(by_time)] if len(by_time) == len(packets) == count else None


def _timeline(reader: VideoReader, pts: np.ndarray, last_duration: int | None) -> Timeline:
    times = pts * reader.time_base
    times = times - first_second(float(times[0]), reader.start(), reader.may_jump)
    return Timeline.of(times, reader.declared_fps, reader.last_duration(int(pts[-1]), last_duration))
