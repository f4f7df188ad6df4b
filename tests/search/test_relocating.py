"""Moved folders and renamed files are recognized and not encoded again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from support.search_indexes import make_index, random_video, rows_of
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import encoded
from ts2net.cli import main
from ts2net.search import VideoIndex, WindowSettings, index_videos
from ts2net.search.indexing import IndexReport
from ts2net.search.relocating import relocate
from ts2net.search.roots import Roots
from ts2net.search.sources import find_videos
from ts2net.search.store import Store

MODEL = tiny_model()
PROCESSOR = tiny_processor(MODEL.config)
CLIPS = [encoded(container="mp4", frames=frames) for frames in (24, 48)]


def bring_up_to_date(folder: Path, index: Path) -> IndexReport:
    settings = WindowSettings(length=2.0, step=1.0, fps=2.0)
    return index_videos(folder, MODEL, index, processor=PROCESSOR, settings=settings, workers=0)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(CLIPS[0])
    (folder / "deep" / "b.mp4").write_bytes(CLIPS[1])
    bring_up_to_date(folder, tmp_path / "index")
    return folder


def test_a_renamed_and_a_touched_file_are_known_by_their_content(videos: Path, tmp_path: Path):
    before = {row["start"]: row["frames"] for row in rows_of(tmp_path / "index") if row["video"].endswith("b.mp4")}
    (videos / "deep" / "b.mp4").rename(videos / "new name.mp4")
    os.utime(videos / "a.mp4", (1, 1))
    report = bring_up_to_date(videos, tmp_path / "index")
    assert (report.indexed, report.replaced, report.missing, report.hours) == ([], [], [], 0)
    assert report.moved == {str(videos / "deep" / "b.mp4"): str(videos / "new name.mp4")}
    index = VideoIndex.open(tmp_path / "index", model=MODEL, processor=PROCESSOR)
    assert index.videos() == [str(videos / "a.mp4"), str(videos / "new name.mp4")]
    for video in index.videos():
        index.open_video(video).open().close()
    rows = [row for row in rows_of(tmp_path / "index") if row["video"].endswith("new name.mp4")]
    assert {row["start"]: row["frames"] for row in rows} == before
    assert all(index.window(row["window"]).video_id == row["video"] for row in rows)
    assert bring_up_to_date(videos, tmp_path / "index").moved == {}


@pytest.mark.slow
def test_a_copy_and_another_content_of_the_same_size_are_encoded(videos: Path, tmp_path: Path):
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    content = bytearray(CLIPS[1])
    content[-1] ^= 1
    (videos / "deep" / "b.mp4").write_bytes(content)
    report = bring_up_to_date(videos, tmp_path / "index")
    assert (report.indexed, report.replaced) == ([str(videos / "copy.mp4")], [str(videos / "deep" / "b.mp4")])


def test_a_moved_folder_is_named_anew_and_its_windows_keep_their_names(videos: Path, tmp_path: Path, capsys):
    before = rows_of(tmp_path / "index")
    shutil.copytree(videos, tmp_path / "it's elsewhere")  # with new modification times
    os.utime(tmp_path / "it's elsewhere" / "a.mp4", (1, 1))
    shutil.rmtree(videos)
    with pytest.raises(SystemExit) as end:
        main(["relocate", str(tmp_path / "index"), str(tmp_path / "it's elsewhere")])
    assert not end.value.code
    assert capsys.readouterr().out == f"2 videos of {videos} are in {tmp_path}/it's elsewhere now\n"
    index = VideoIndex.open(tmp_path / "index", model=MODEL, processor=PROCESSOR)
    assert index.videos() == [f"{tmp_path}/it's elsewhere/a.mp4", f"{tmp_path}/it's elsewhere/deep/b.mp4"]
    assert [row["window"] for row in rows_of(tmp_path / "index")] == [row["window"] for row in before]
    query = np.ones((1, 32), np.float32)
    (hits,) = index.search_embeds(query, path="it's elsewhere/deep/*")
    assert {hit.video_id for hit in hits} == {f"{tmp_path}/it's elsewhere/deep/b.mp4"}
    assert index.search_embeds(query, path="videos/*") == [[]]
    index.open_video(hits[0].video_id).open().close()
    report = bring_up_to_date(tmp_path / "it's elsewhere", tmp_path / "index")
    assert (len(report.unchanged), report.hours) == (2, 0)


def test_what_is_not_there_or_changed_is_told(videos: Path, tmp_path: Path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").write_bytes(CLIPS[1])
    done = relocate(tmp_path / "index", tmp_path / "elsewhere")
    assert (done.moved, done.missing, done.changed) == (
        2,
        [f"{tmp_path}/elsewhere/deep/b.mp4"],
        [f"{tmp_path}/elsewhere/a.mp4"],
    )
    with pytest.raises(ValueError, match="no indexed video is in /nowhere"):
        relocate(tmp_path / "index", tmp_path / "elsewhere", "/nowhere")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        relocate(tmp_path / "index", tmp_path / "gone")


def test_files_where_a_folder_was_before_are_other_videos(tmp_path: Path):
    make_index(tmp_path / "index", MODEL, [random_video("/old/a.mp4", 0), random_video("/other/b.mp4", 1)])
    with Store.write(tmp_path / "index") as store:
        store.move_root("/old", "/new")
        store.add([random_video("/old/a.mp4", 2)])
        assert store.snapshot().video_ids() == ["/new/a.mp4", "/old/a.mp4", "/other/b.mp4"]
        store.drop(["/new/a.mp4"])
        store.move_root("/new", "/newest")
    store = Store.open(tmp_path / "index")
    assert store.snapshot().video_ids() == ["/old/a.mp4", "/other/b.mp4"]
    assert store.snapshot().video("/old/a.mp4") is not None


def test_moves_follow_one_another_and_back():
    roots = Roots().with_move("/a", "/b").with_move("/b", "/c/d").with_move("/c/d/e", "/f")
    names = {"/a/x": "/c/d/x", "/a/e/x": "/f/x", "/ab/x": "/ab/x", "//a/x": "/a/x", "//c/d/e/x": "/c/d/e/x"}
    for name, present in names.items():
        assert roots.to_present(name) == present
        assert roots.to_name(present) == name
    assert Roots().with_move("/a", "/b").with_move("/b", "/a") == Roots()


def test_links_are_followed_on_request_and_never_in_circles(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_bytes(CLIPS[0])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "out")
    (folder / "again").symlink_to(tmp_path / "out")
    (folder / "circle").symlink_to(folder)
    (folder / "b.mp4").symlink_to(tmp_path / "out" / "a.mp4")
    result = find_videos([folder])
    assert (result.videos, [video.reason for video in result.broken]) == (
        [],
        ["a link that leads out of the folder; --follow-links follows it"],
    )
    result = find_videos([folder], follow_links=True)
    assert [video.video_id for video in result.videos] == [str(folder / "again" / "a.mp4"), str(folder / "b.mp4")]
    assert not result.broken
