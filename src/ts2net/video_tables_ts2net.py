"""The table of a video's frames, without decoding any.

Notable here: a table is believed only as far as it can be checked. What an MP4 header says is compared with the last
packets, and times with the order of decoding.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from .video_container_ts2net import MATROSKA, MOV, EntryPoint, TableError, VideoReader
from .video_timing_ts2net import Timeline, first_second

# Codecs whose keyframes (for H.264 and HEVC, after a look at the bytes) let decoding start afresh.
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd"}
# No level of H.264 or HEVC lets more pictures be decoded before one that is shown before them. So many may follow an
# HEVC keyframe and be shown before it, and among so many last packets is the frame that is shown last.
_MAX_REORDERED = 16


@dataclass(frozen=True)
class FrameTable:
    """The timestamp of every frame in order of presentation, and where decoding may start for a given frame."""

    pts: np.ndarray
    timeline: Timeline
    entry_point: Callable[[int], EntryPoint]


def table_from_index(reader: VideoReader) -> FrameTable | None:
    """The table by the index in an MP4 header, without reading more than the last packets.

    The index has decoding times. Evenly spaced, or in a stream that never reorders frames, these are the
    presentation times but for an offset: as many different times as there are steps from the first to the last
    leave no gap. Which is the last is what the last packets tell.
    """
    stream = reader.stream
    if reader.format != MOV or reader.codec not in _SEEKABLE_CODECS or stream.start_time is None:
        return None
    index = stream.index_entries
    entries = list(index)
    if not entries or len(entries) != stream.frames or any(entry.is_discard for entry in entries):
        return None
    if any(entry.pos + entry.size > reader.file.size for entry in entries):  # cut off
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
    """The table by reading every packet, without decoding any."""
    if reader.format not in (MOV, MATROSKA) or reader.codec not in _SEEKABLE_CODECS or reader.is_cut_off():
        return None
    shown: list[tuple[int, int]] = []  # timestamp and duration in the order of decoding
    entry_points: list[tuple[int, EntryPoint]] = []  # with the presentation time of each
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
    # Times that the decoder could not bring into this order are wrong in the file.
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
    """Of the last so many packets, the one that is shown last; None if the file doesn't have them."""
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
