"""Decoding workers: a crash or a hang costs one video."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ts2net.search import decoding_workers
from ts2net.search.decoded import Decoded, EndOfVideo
from ts2net.search.decoding_workers import decode_all
from ts2net.search.sources import VideoFile
from ts2net.videos.broken import BrokenVideo


def file(name: str) -> VideoFile:
    return VideoFile(name, "1", name, 0, 1)


def decode_or_crash(video: VideoFile) -> Iterator[Decoded]:
    """Crash for "always", and for a path until its file exists, as a native decoder may crash."""
    if video.video_id == "always":
        os._exit(1)
    if video.video_id.startswith("/") and not Path(video.video_id).exists():
        Path(video.video_id).touch()
        os._exit(1)
    yield EndOfVideo(video.video_id, "1", 1.0, {}, 0, None)


@pytest.mark.slow
def test_a_crash_costs_one_video_and_is_tried_twice(tmp_path: Path):
    once = str(tmp_path / "once")
    names = ["a", "always", "b", once, "c"]
    decoded = list(decode_all(map(file, names), decode_or_crash, 2, threading.Event()))
    ends = sorted(item.video_id for item in decoded if isinstance(item, EndOfVideo))
    assert ends == sorted(["a", "b", once, "c"])
    broken = [item for item in decoded if isinstance(item, BrokenVideo)]
    assert broken == [BrokenVideo("always", "the process that decoded it crashed, twice")]


def decode_or_sleep(video: VideoFile) -> Iterator[Decoded]:
    """Hang for "forever", as a decoder may on a malicious file."""
    if video.video_id == "forever":
        time.sleep(3600)
    yield EndOfVideo(video.video_id, "1", 1.0, {}, 0, None)


@pytest.mark.slow
def test_a_video_of_which_nothing_comes_is_broken_and_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding_workers, "_PATIENCE", 1.0)
    names = ["a", "forever", "b", "c"]
    decoded = list(decode_all(map(file, names), decode_or_sleep, 1, threading.Event()))
    assert [item.video_id for item in decoded] == names
    assert decoded[1] == BrokenVideo("forever", "nothing came of it for 1 s")
