"""Indexing of videos: correct embeddings, incremental updates, interruptions, and hostile files and names."""

import errno
import io
import json
import os
import random
import shutil
import tarfile
import time
import warnings
from collections import Counter
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from support.index_processes import (
    count_windows,
    index_with_a_vector_index,
    index_with_many_commits,
    run_process,
    start_process,
)
from support.search_indexes import clustered_videos, make_index, rows_of, windows_table
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import encoded, write_video
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.data.prepare import prepare
from ts2net.search import WindowSettings, index_videos
from ts2net.search.decoded import DecodedWindow, EndOfVideo
from ts2net.search.indexing import IndexReport
from ts2net.search.sources import VideoFile, find_videos, locate
from ts2net.search.store import Store
from ts2net.search.streaming import decode_windows

pytestmark = pytest.mark.slow

SHORT = WindowSettings(length=2.0, step=1.0, fps=2.0)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = tiny_model(num_frames=12)
    model.save_pretrained(folder)
    tiny_processor(model.config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded() -> tuple[TS2NetModel, TS2NetProcessor]:
    model = tiny_model()
    return model, tiny_processor(model.config)


@pytest.fixture(scope="module")
def clip() -> bytes:
    """An MP4 file of two seconds."""
    return encoded(container="mp4", frames=48)


@pytest.fixture
def make(tmp_path: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]) -> Any:
    """A function that indexes into `index` with a loaded model, short windows and no workers."""

    def index(*videos: Path | str, **options: Any) -> IndexReport:
        options = {"settings": SHORT, "workers": 0, "processor": loaded[1]} | options
        return index_videos(list(videos), loaded[0], tmp_path / "index", **options)

    return index


def windows_of_each(index: Path) -> Counter[str]:
    """Count the windows of each video, and check that their names are unique."""
    rows = rows_of(index)
    assert len({row["window"] for row in rows}) == len(rows)
    return Counter(row["video"] for row in rows)


def assert_same(index: Path, other: Path) -> None:
    """Check that all columns are equal; embeddings may differ by rounding, because batches hold other windows."""
    rows, others = rows_of(index), rows_of(other)
    for row, reference in zip(rows, others, strict=True):
        for name in reference.keys() - {"frames", "mean", "checksum"}:
            assert row[name] == reference[name], name
        np.testing.assert_allclose(np.array(row["frames"]), np.array(reference["frames"]), atol=2e-3)


def names(videos: list[str] | list[VideoFile]) -> list[str]:
    return [os.path.basename(video if isinstance(video, str) else video.video_id) for video in videos]


# ---------------------------------------------------------------------------------------------------------------------
# What a window is


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("a.mp4", {"frames": 24 * 7 + 5}),
        ("b.mkv", {"frames": 200, "fps": 25, "options": {"x264-params": "keyint=10"}}),
        ("c.mp4", {"frames": 60, "fps": 10, "rotation": 90}),
        ("d.avi", {"frames": 150, "codec": "mpeg4"}),
    ],
)
@pytest.mark.parametrize("settings", [SHORT, WindowSettings(3.0, 2.0, 1.0)], ids=["short", "long"])
def test_a_window_is_what_the_processor_and_the_model_make_of_the_moment(
    tmp_path: Path,
    loaded: tuple[TS2NetModel, TS2NetProcessor],
    file: str,
    options: dict[str, Any],
    settings: WindowSettings,
):
    """A window has the frame times and, up to float16, the embeddings that the processor and the model give for it."""
    model, processor = loaded
    path = write_video(tmp_path / file, **options)
    index_videos(path, model, tmp_path / "index", processor=processor, settings=settings, workers=0, batch_size=3)
    rows = rows_of(tmp_path / "index")
    assert len(rows) > 2
    for row in rows:
        end = row["start"] + settings.length - 1 / settings.fps
        inputs = processor(
            videos=[path], start=row["start"], end=end, num_frames=99, fps=settings.fps, return_metadata=True
        )
        assert row["frame_times"] == pytest.approx(inputs.pop("video_metadata")[0].timestamps)
        with torch.no_grad():
            frames = model.get_video_features(**inputs).frame_embeds[0]
        unit = torch.nn.functional.normalize(frames, dim=-1).numpy()
        np.testing.assert_allclose(np.array(row["frames"], np.float32), unit, atol=1e-3)


def test_the_moments_of_a_film_at_29_97_frames_a_second_are_right_at_its_end_too(tmp_path: Path, make: Any):
    """Frame times stay exact at 29.97 fps; counting 29 frames a second would be seconds off after an hour."""
    path = write_video(tmp_path / "a.mp4", frames=900, fps=Fraction(30000, 1001), size=(32, 32))
    make(path)
    for row in rows_of(tmp_path / "index"):
        assert row["frame_times"][0] == pytest.approx(row["start"], abs=0.04)
        assert row["start"] <= row["end"] <= row["duration"] == pytest.approx(30.03, abs=0.01)


def test_the_thumbnail_is_the_frame_in_the_middle_and_small(tmp_path: Path, make: Any):
    make(write_video(tmp_path / "a.mp4", size=(640, 360), frames=24))
    (row,) = rows_of(tmp_path / "index")
    picture = Image.open(io.BytesIO(row["thumbnail"]))
    assert (picture.format, picture.size) == ("JPEG", (284, 160))


def test_a_long_video_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]
):
    """Peak memory stays constant for a ten times longer video that has a single keyframe."""

    def peak(frames: int) -> tuple[int, int]:
        path = tmp_path / f"{frames}.mp4"
        options = {"x264-params": "keyint=infinite:bframes=2", "preset": "ultrafast"}
        write_video(path, frames=frames, fps=4, size=(256, 192), options=options)
        run_process(count_windows, path, WindowSettings(fps=4), loaded[1].video_processor, tmp_path / "answer")
        windows, most = (tmp_path / "answer").read_text().split()
        return int(windows), int(most)

    few, short = peak(100)
    many, long = peak(1000)
    assert many >= 10 * few
    assert long - short < 40e6  # keeping all decoded frames would take 147e6, resized frames 100e6


def windows_in(path: Path, settings: WindowSettings, processor: TS2NetProcessor) -> list[DecodedWindow]:
    (file,) = find_videos([path]).videos
    *windows, end = decode_windows(file, settings, processor.video_processor)
    assert isinstance(end, EndOfVideo)
    assert [window.number for window in windows] == list(range(end.num_windows))
    return windows


def test_hours_of_one_picture_are_not_thousands_of_windows(
    tmp_path: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]
):
    """A file of a few hundred bytes may have a duration of days, but a static picture gives only a few windows."""
    seconds = [0, 1, 99 * 3600]
    path = write_video(tmp_path / "a.mkv", frames=3, fps=1, pts=seconds, time_base=Fraction(1))
    windows = windows_in(path, WindowSettings(), loaded[1])
    assert [window.start for window in windows] == [0, 6, 99 * 3600 - 6]
    assert [set(window.frame_times) for window in windows] == [{0, 1}, {1}, {1, 99 * 3600}]


def test_each_picture_of_a_slide_show_is_there_with_what_it_follows(
    tmp_path: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]
):
    path = write_video(tmp_path / "a.mkv", frames=3, fps=1, pts=[0, 20, 121], time_base=Fraction(1))
    windows = windows_in(path, WindowSettings(), loaded[1])
    assert [(window.start, set(window.frame_times)) for window in windows] == [
        (0, {0}),
        (12, {0, 20}),
        (18, {0, 20}),
        (24, {20}),
        (114, {20, 121}),
    ]


def test_what_the_model_warns_of_is_no_damage_of_a_video(
    tmp_path: Path, make: Any, loaded: tuple[TS2NetModel, TS2NetProcessor], clip: bytes
):
    """Without workers, a model warning raised while a video is decoded is not reported as damage to the video."""
    (tmp_path / "a.mp4").write_bytes(clip)
    hook = loaded[0].vision_model.embeddings.register_forward_hook(
        lambda *_: warnings.warn("of the model", stacklevel=1)
    )
    with pytest.warns(UserWarning, match="of the model"):
        report = make(tmp_path / "a.mp4", batch_size=1)
    hook.remove()
    assert names(report.indexed) == ["a.mp4"]
    assert report.damaged == {}


# ---------------------------------------------------------------------------------------------------------------------
# Again


def test_only_what_changed_is_touched(tmp_path: Path, make: Any, clip: bytes):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("same.mp4", "changed.mp4", "deleted.mp4", "breaks.mp4"):
        (folder / name).write_bytes(clip)
    (folder / "deleted.mp4").write_bytes(clip + bytes(3))  # otherwise, another file would count as its new location
    (folder / "mends.mp4").write_bytes(b"not yet")
    first = make(folder)
    assert names(first.indexed) == ["breaks.mp4", "changed.mp4", "deleted.mp4", "same.mp4"]
    assert names([video.video_id for video in first.broken]) == ["mends.mp4"]
    before = {row["window"]: row for row in rows_of(tmp_path / "index")}

    write_video(folder / "changed.mp4", frames=100)
    (folder / "deleted.mp4").unlink()
    (folder / "breaks.mp4").write_bytes(b"no more")
    (folder / "mends.mp4").write_bytes(clip)
    (folder / "new.mp4").write_bytes(clip)
    second = make(folder)
    assert names(second.unchanged) == ["same.mp4"]
    assert names(second.replaced) == ["changed.mp4"]
    assert names(second.indexed) == ["mends.mp4", "new.mp4"]
    assert names([video.video_id for video in second.broken]) == ["breaks.mp4"]
    assert names(second.missing) == ["deleted.mp4"]
    assert second.dropped == []
    store = Store.open(tmp_path / "index")
    assert names(store.snapshot().video_ids()) == ["changed.mp4", "deleted.mp4", "mends.mp4", "new.mp4", "same.mp4"]
    after = {row["window"]: row for row in rows_of(tmp_path / "index")}
    for window, row in before.items():
        if row["video"].endswith(("same.mp4", "deleted.mp4")):
            assert after[window] == row

    version = windows_table(tmp_path / "index").version
    third = make(folder, drop_missing=True)
    assert names(third.dropped) == ["deleted.mp4"]
    assert (third.indexed, third.replaced, len(third.unchanged)) == ([], [], 4)
    assert windows_table(tmp_path / "index").version == version + 1
    assert names([video.video_id for video in make(folder).broken]) == ["breaks.mp4"]
    assert windows_table(tmp_path / "index").version == version + 1


def test_what_is_given_once_more_drops_nothing_of_another_folder(tmp_path: Path, make: Any, clip: bytes):
    """`drop_missing` keeps existing videos whose folder isn't part of the current call."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(clip)
    make(tmp_path / "a")
    assert make(tmp_path / "b", drop_missing=True).dropped == []
    assert len(Store.open(tmp_path / "index").snapshot().video_ids()) == 2


def test_metadata_is_searched_by_and_changed_without_decoding(tmp_path: Path, make: Any, clip: bytes):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(clip)
    table = tmp_path / "about.csv"
    table.write_text("file,kind\na.mp4,dog\n")
    make(tmp_path / "a.mp4", tmp_path / "b.mp4", metadata=table)
    table.write_text(f'file,kind\n{tmp_path / "a.mp4"},"wolf, grey"\nb.mp4,cat\n')
    report = make(tmp_path / "a.mp4", tmp_path / "b.mp4", metadata=table)
    assert (report.hours, names(report.relabelled)) == (0, ["a.mp4", "b.mp4"])
    labels = {row["video"][-5:]: row["metadata"] for row in rows_of(tmp_path / "index")}
    assert labels == {"a.mp4": {"kind": "wolf, grey"}, "b.mp4": {"kind": "cat"}}
    assert make(tmp_path / "a.mp4").relabelled == []


def test_rows_about_no_video_are_named(tmp_path: Path, make: Any, clip: bytes):
    """Rows without a video are reported and the other rows are used, because a table may cover more videos."""
    (tmp_path / "a.mp4").write_bytes(clip)
    table = tmp_path / "about.csv"
    table.write_text("file,kind\nb.mp4,cat\na.mp4,dog\nelsewhere/a.mp4,cow\n")
    assert make(tmp_path / "a.mp4", metadata=table).unmatched_metadata == ["b.mp4", "elsewhere/a.mp4"]
    assert [row["metadata"] for row in rows_of(tmp_path / "index")] == [{"kind": "dog"}]


def test_a_row_adds_to_what_is_known_and_touches_no_other_video(tmp_path: Path, make: Any, clip: bytes):
    """A row adds to the metadata of its video, changed or not, and leaves other videos unchanged."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(clip)
    videos, table = [tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4"], tmp_path / "about.csv"
    table.write_text("file,kind,year\na.mp4,dog,1999\nb.mp4,cat,2001\nc.mp4,cow,2003\n")
    make(*videos, metadata=table)
    (tmp_path / "c.mp4").write_bytes(clip + b"\0")
    table.write_text("file,kind,place\na.mp4,wolf,here\nc.mp4,bull,there\n")
    report = make(*videos, metadata=table)
    assert (names(report.relabelled), names(report.replaced)) == (["a.mp4"], ["c.mp4"])
    labels = {row["video"][-5:]: row["metadata"] for row in rows_of(tmp_path / "index")}
    assert labels == {
        "a.mp4": {"kind": "wolf", "year": "1999", "place": "here"},
        "b.mp4": {"kind": "cat", "year": "2001"},
        "c.mp4": {"kind": "bull", "year": "2003", "place": "there"},
    }


def test_a_broken_video_is_tried_again_once_it_has_changed_or_what_failed_may_have_passed(
    tmp_path: Path, make: Any, clip: bytes, monkeypatch: pytest.MonkeyPatch
):
    """A broken video is listed again without being read, until it changes or its error may be gone."""
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    (tmp_path / "away.mp4").write_bytes(clip)
    tried: list[str] = []
    is_away = True

    def open_video(file: VideoFile) -> Any:
        tried.append(os.path.basename(file.video_id))
        if is_away and file.video_id.endswith("away.mp4"):
            raise OSError(errno.EIO, "Input/output error")
        return io.FileIO(file.path)

    monkeypatch.setattr(VideoFile, "open", open_video)
    first = make(tmp_path / "away.mp4", tmp_path / "broken.mp4")
    assert first.broken[0].reason == "Input/output error"
    is_away = False
    second = make(tmp_path / "away.mp4", tmp_path / "broken.mp4")
    assert (names(second.indexed), second.broken) == (["away.mp4"], first.broken[1:])
    (tmp_path / "broken.mp4").write_bytes(clip)
    assert names(make(tmp_path / "broken.mp4").indexed) == ["broken.mp4"]
    # After indexing, a file is opened again for its subtitles and its content hash.
    assert [name for name, _ in groupby(tried)] == ["away.mp4", "broken.mp4", "away.mp4", "broken.mp4"]


def test_the_progress_says_how_many_videos_and_hours_are_done(tmp_path: Path, make: Any, clip: bytes):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(clip)
    screen = io.StringIO()
    make(tmp_path / "a.mp4", tmp_path / "b.mp4", console=Console(file=screen, force_terminal=True, width=100))
    assert "0.00 of 0.00 hours, 2 of 2 videos done" in screen.getvalue()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits on processes are those of Unix")
def test_no_room_for_the_vector_index_leaves_all_videos_in_and_the_same_call_makes_it(tmp_path: Path):
    model = tiny_model()
    make_index(tmp_path / "index", model, clustered_videos(20))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4")
    model.save_pretrained(tmp_path / "model")
    tiny_processor(model.config).save_pretrained(tmp_path / "model")
    arguments = (tmp_path / "videos", tmp_path / "model", tmp_path / "index", tmp_path / "answer")
    run_process(index_with_a_vector_index, *arguments, True)
    message = (tmp_path / "answer").read_text()
    assert "the index can't be written: File too large. All videos are in the index; the same command" in message
    assert len(Store.open(tmp_path / "index").snapshot().video_ids()) == 21
    run_process(index_with_a_vector_index, *arguments, False)
    assert (tmp_path / "answer").read_text() == "[] indexed, 1 unchanged, vector index: True"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,kind\na.mp4,dog\n", "a column 'file'"),
        ("file,kind\na.mp4\n", "line 2: expected 2 values"),
        ("file,kind\na.mp4,x\na.mp4,y\n", "line 3: 'a.mp4' is there twice"),
        ("file,kind\nc.mp4,x\n", "no row is about one of the 1 videos; 'c.mp4' is not there"),
    ],
)
def test_metadata_that_fits_nothing_is_refused(tmp_path: Path, make: Any, clip: bytes, text: str, message: str):
    (tmp_path / "a.mp4").write_bytes(clip)
    (tmp_path / "about.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "a.mp4", metadata=tmp_path / "about.csv")
    assert not Store.exists(tmp_path / "index")


def test_another_model_or_other_windows_are_refused(
    tmp_path: Path, make: Any, clip: bytes, loaded: tuple[TS2NetModel, TS2NetProcessor]
):
    (tmp_path / "a.mp4").write_bytes(clip)
    make(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="has windows of 2 s every 1 s at 2 frames a second, not 2 s every 2 s"):
        make(tmp_path / "a.mp4", settings=WindowSettings(2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="was made with .* whose weights, settings or processor differ"):
        index_videos(tmp_path / "a.mp4", tiny_model(seed=1), tmp_path / "index", processor=loaded[1])
    with pytest.raises(ValueError, match="have 24 frames, and the model takes at most 6"):
        index_videos(
            tmp_path / "a.mp4",
            loaded[0],
            tmp_path / "other",
            processor=loaded[1],
            settings=WindowSettings(12, 6, 2),
        )
    assert not Store.exists(tmp_path / "other")


def test_killed_at_random_moments_it_goes_on_and_comes_to_the_same(tmp_path: Path, model_folder: Path, clip: bytes):
    """A run after kills at random moments completes the index, with whole videos and without duplicates."""
    videos = tmp_path / "videos"
    videos.mkdir()
    long = encoded(container="mp4", frames=120)
    for number in range(16):
        (videos / f"{number:02d}.mp4").write_bytes((long if number % 4 == 0 else clip) + bytes(number))
    (videos / "broken.mp4").write_bytes(b"broken")
    begun = time.monotonic()
    index_with_many_commits(videos, model_folder, tmp_path / "undisturbed")
    duration = time.monotonic() - begun
    whole = windows_of_each(tmp_path / "undisturbed")
    assert sorted(set(whole.values())) == [1, 4]

    index, moments = tmp_path / "index", random.Random(0)
    for _ in range(6):
        process = start_process(index_with_many_commits, videos, model_folder, index)
        process.join(moments.uniform(0.05, 0.6) * duration)
        process.kill()
        process.join()
        if Store.exists(index):
            assert windows_of_each(index).items() <= whole.items()
    index_with_many_commits(videos, model_folder, index)
    assert_same(index, tmp_path / "undisturbed")
    assert Store.open(index).broken() == Store.open(tmp_path / "undisturbed").broken()


def test_workers_give_what_this_process_gives(tmp_path: Path, model_folder: Path, clip: bytes):
    """Indexing with two workers gives the same index as without workers, also for long and broken videos."""
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "long.mp4", frames=400, fps=10)
    for number in range(5):
        (videos / f"{number}.mp4").write_bytes(clip)
    (videos / "broken.mp4").write_bytes(b"broken")
    for workers in (0, 2):
        report = index_videos(videos, model_folder, tmp_path / f"{workers}", workers=workers, settings=SHORT)
        assert len(report.indexed) == 6
        assert names([video.video_id for video in report.broken]) == ["broken.mp4"]
    assert_same(tmp_path / "2", tmp_path / "0")
    again = index_videos(videos, None, tmp_path / "2", console=Console(file=io.StringIO()))
    assert len(again.unchanged) == 6


# ---------------------------------------------------------------------------------------------------------------------
# Where videos come from


def test_shards_of_a_benchmark_are_read_where_they_lie(tmp_path: Path, make: Any):
    prepare("moving_things", tmp_path / "shards", splits=["test"], num_clips=4, workers=0)
    report = make(tmp_path / "shards")
    assert len(report.indexed) == 4
    assert report.broken == []
    for row in rows_of(tmp_path / "index"):
        about = row["metadata"]
        assert row["video"] == f"{tmp_path}/shards/test-00000.tar#{about['id']}"
        assert (about["benchmark"], about["split"]) == ("moving_things", "test")
        file = locate(row["video"])
        assert file is not None
        with file.open() as video:
            assert video.read()[4:8] == b"ftyp"
    assert len(make(tmp_path / "shards" / "test-00000.tar").unchanged) == 4
    shutil.rmtree(tmp_path / "shards")
    (tmp_path / "other.mp4").write_bytes(encoded(container="mp4"))
    assert len(make(tmp_path / "other.mp4", drop_missing=True).dropped) == 4


def test_hostile_members_of_an_archive_lead_nowhere(tmp_path: Path, make: Any, clip: bytes):
    """Members with `..` or absolute names, links and devices cause no write and no read outside the archive."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clip)
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "hostile.tar", "w") as tar:
        for name in ("../../up.mp4", "/root.mp4", "good.mp4", "a'; DROP TABLE windows.mp4"):
            member = tarfile.TarInfo(name)
            member.size = len(clip)
            tar.addfile(member, io.BytesIO(clip))
        for name, kind in (
            ("link.mp4", tarfile.SYMTYPE),
            ("hard.mp4", tarfile.LNKTYPE),
            ("pipe.mp4", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
        note = json.dumps({"id": "../../../etc/passwd\0", "start": "x", "end": -1}).encode()
        member = tarfile.TarInfo("good.json")
        member.size = len(note)
        tar.addfile(member, io.BytesIO(note))
    before = sorted(tmp_path.rglob("*"))
    report = make(folder)
    ids = [name.partition(".tar#")[2] for name in report.indexed]
    assert sorted(ids) == ["../../../etc/passwd", "../../up", "/root", "a'; DROP TABLE windows"]
    assert report.broken == []
    assert [path for path in sorted(tmp_path.rglob("*")) if "index" not in path.parts] == before
    for name in report.indexed:
        file = locate(name)
        assert file is not None
        assert file.path == str(folder / "hostile.tar")


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_archives_and_clips_of_any_name_are_found_again(tmp_path: Path, make: Any, clip: bytes):
    """Videos are located again if the archive has an uppercase extension or an id looks like an archive name."""
    note = json.dumps({"id": "b.tar#c.TAR#"}).encode()
    tar = write_tar(tmp_path / "CLIPS.TAR", {"a.mp4": clip, "b.mp4": clip, "b.json": note})
    report = make(tar)
    assert sorted(report.indexed) == [f"{tar}#a", f"{tar}#b.tar#c.TAR#"]
    for name in report.indexed:
        file = locate(name)
        assert file is not None
        assert file.video_id == name
    (tmp_path / "other.mp4").write_bytes(clip)
    assert make(tmp_path / "other.mp4", drop_missing=True).dropped == []
    write_tar(tar, {"a.mp4": clip})
    assert make(tmp_path / "other.mp4", drop_missing=True).dropped == [f"{tar}#b.tar#c.TAR#"]


def test_no_clip_is_lost_to_another_of_its_name(tmp_path: Path, make: Any, clip: bytes):
    note = json.dumps({"id": "a"}).encode()
    tar = write_tar(tmp_path / "x.tar", {"a.mp4": clip, "a.mkv": clip, "b.mp4": clip, "b.json": note})
    report = make(tar)
    assert names(report.indexed) == ["x.tar#a"]
    assert {os.path.basename(video.video_id): video.reason for video in report.broken} == {
        "x.tar#a.mkv": "a.mp4 in the same archive has its id, a",
        "x.tar#b.mp4": "a.mp4 in the same archive has its id, a",
    }


def test_a_folder_that_can_not_be_read_is_said_and_nothing_of_it_dropped(
    tmp_path: Path, make: Any, clip: bytes, monkeypatch: pytest.MonkeyPatch
):
    """An unreadable folder is reported and its videos are kept, while the other videos are processed."""
    folder = tmp_path / "videos"
    (folder / "away").mkdir(parents=True)
    for name in ("a.mp4", "away/b.mp4"):
        (folder / name).write_bytes(clip)
    make(folder)
    scandir, lstat = os.scandir, os.lstat

    def refuse(path: Any, call: Any, **options: Any) -> Any:  # simulated, because the superuser may read everything
        if str(path).startswith(str(folder / "away")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda path: refuse(path, scandir))
        patch.setattr(os, "lstat", lambda path, **options: refuse(path, lstat, **options))
        report = make(folder, drop_missing=True)
    assert (names(report.unchanged), report.dropped) == (["a.mp4"], [])
    assert [(names([video.video_id]), video.reason) for video in report.broken] == [
        (["away"], "the folder can't be read: Permission denied")
    ]
    assert Store.open(tmp_path / "index").broken() == []
    assert make(folder).broken == []


def test_a_folder_without_videos_is_said_and_makes_no_index(tmp_path: Path, make: Any):
    (tmp_path / "videos").mkdir()
    with pytest.raises(ValueError, match=f"there is no video in {tmp_path / 'videos'}"):
        make(tmp_path / "videos")
    assert not (tmp_path / "index").exists()
    (tmp_path / "videos" / "disk").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="disk is a link to a folder; --follow-links follows it$"):
        make(tmp_path / "videos")


def test_a_cut_off_archive_gives_the_members_that_are_whole(tmp_path: Path, make: Any, clip: bytes):
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for name in ("a.mp4", "b.mp4"):
            member = tarfile.TarInfo(name)
            member.size = len(clip)
            tar.addfile(member, io.BytesIO(clip))
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[: 2 * 512 + len(clip) + 3000])
    (tmp_path / "none.tar").write_bytes(b"none")
    report = make(tmp_path / "cut.tar", tmp_path / "none.tar")
    assert names(report.indexed) == ["cut.tar#a"]
    assert {os.path.basename(video.video_id): video.reason for video in report.broken} == {
        "cut.tar": "not a whole tar file",
        "none.tar": "not a whole tar file",
    }


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{secret}'\n",
    ],
)
def test_a_playlist_that_calls_itself_a_video_reaches_nothing(tmp_path: Path, make: Any, clip: bytes, playlist: str):
    secret = tmp_path / "secret" / "secret.mp4"
    secret.parent.mkdir()
    secret.write_bytes(clip)
    (tmp_path / "playlist.mp4").write_text(playlist.format(secret=secret))
    report = make(tmp_path / "playlist.mp4")
    assert report.indexed == []
    assert names([video.video_id for video in report.broken]) == ["playlist.mp4"]
    assert len(Store.open(tmp_path / "index").snapshot()) == 0


def test_a_folder_is_searched_for_videos_and_for_nothing_else(tmp_path: Path, clip: bytes):
    """Hidden files, other files and links out of the folder are skipped; the links are reported."""
    folder = tmp_path / "videos"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("a.mp4", "deep/deeper/b.MKV", ".hidden/c.mp4", ".d.mp4", "notes.txt"):
        (folder / name).write_bytes(clip)
    (tmp_path / "outside.mp4").write_bytes(clip)
    (folder / "out.mp4").symlink_to(tmp_path / "outside.mp4")
    (folder / "inside.mp4").symlink_to(folder / "a.mp4")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    result = find_videos([folder, folder / "a.mp4"])
    assert names(result.videos) == ["a.mp4", "b.MKV", "inside.mp4"]
    assert {os.path.basename(video.video_id): video.reason for video in result.broken} == {
        "out.mp4": "a link that leads out of the folder; --follow-links follows it",
        "dangling.mp4": "No such file or directory",
        "pipe.mp4": "not a regular file",
    }
    assert names(find_videos([f"{folder}/**/*.MKV"]).videos) == ["b.MKV"]
    fitting = find_videos([f"{folder}/*t.mp4"])
    assert (fitting.videos, names([video.video_id for video in fitting.broken])) == ([], ["out.mp4"])
    assert names(find_videos([str(folder / "notes.txt")]).videos) == ["notes.txt"]  # a file given by name is accepted
    for nothing in (folder / "none.mp4", f"{folder}/*.webm"):
        with pytest.raises(FileNotFoundError, match=r"no such file or folder|no file matches this pattern"):
            find_videos([nothing])
    with pytest.raises(ValueError, match="nothing to index"):
        find_videos([])


def test_hostile_file_names_are_only_names(tmp_path: Path, make: Any, clip: bytes):
    """Hostile file names are stored byte for byte in the index and lead back to the file."""
    hostile = ["two\nlines.mp4", "'; DROP TABLE windows; --.mp4", "no-utf8-\udcff.mp4", "[a-z]*?.mp4", "#.tar#x.mp4"]
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in hostile:
        (folder / name).write_bytes(clip)
    (folder / "broken-\udcff.mp4").write_bytes(b"broken")
    assert sorted(names(make(folder).indexed)) == sorted(hostile)
    again = make(folder)
    assert sorted(names(again.unchanged)) == sorted(hostile)
    assert names([video.video_id for video in Store.open(tmp_path / "index").broken()]) == ["broken-\udcff.mp4"]
    for name in Store.open(tmp_path / "index").snapshot().video_ids():
        file = locate(name)
        assert file is not None
        with file.open() as video:
            assert video.read() == clip


def test_what_can_not_be_a_video_of_people_is_broken(tmp_path: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]):
    """Extreme aspect ratios are refused, because resizing their short side for the model would take a gigabyte."""
    path = write_video(tmp_path / "line.mp4", size=(2048, 16), frames=4)
    (file,) = find_videos([path]).videos
    (broken,) = decode_windows(file, SHORT, loaded[1].video_processor)
    assert not isinstance(broken, (DecodedWindow, EndOfVideo))
    assert broken.reason == "frames of 2048x16, expected sides of at most 1:32"


def test_a_video_that_is_cut_off_is_indexed_as_far_as_it_goes(tmp_path: Path, make: Any):
    path = write_video(tmp_path / "a.mp4", frames=240, container_options={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size * 2 // 3)
    report = make(tmp_path / "a.mp4")
    assert names(report.indexed) == ["a.mp4"]
    assert "damaged or cut off" in report.damaged[str(tmp_path / "a.mp4")]
    rows = rows_of(tmp_path / "index")
    assert 3 < max(row["end"] for row in rows) < 9
