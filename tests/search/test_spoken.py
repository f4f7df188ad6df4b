"""Speech search over subtitle files and embedded subtitles, and updates of the index when they change."""

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.search_indexes import leave_nothing_out, rows_of
from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_subtitled, write_video
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.search import Hit, VideoIndex, WindowSettings, index_videos
from ts2net.search.about import FORMAT
from ts2net.search.indexing import IndexReport
from ts2net.search.options import SearchOptions
from ts2net.search.relocating import relocate
from ts2net.search.several import search_several
from ts2net.search.store import Store
from ts2net.search.summary import summarize

SHORT = WindowSettings(length=4.0, step=2.0, fps=1.0)
SRT = "1\n00:00:03,250 --> 00:00:05,000\n<i>The city</i> never {\\an8}sleeps\n\n"
VTT = "WEBVTT\n\nNOTE nobody says this\n\n00:05.500 --> 00:07.000 align:start\n<v Ann>Grüße aus <c.loud>München</c>\n"


@pytest.fixture(scope="module")
def loaded() -> tuple[TS2NetModel, TS2NetProcessor]:
    model = tiny_model()
    return model, tiny_processor(model.config)


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of up to twelve seconds: one with embedded subtitles, two without."""
    folder = tmp_path_factory.mktemp("masters")
    write_subtitled(folder / "moon.mp4", [(1.5, "we choose to go"), (3.25, "to the moon"), (9, "good night")])
    for name in ("city", "quiet"):
        write_video(folder / f"{name}.mp4", frames=48 if name == "city" else 40, fps=4)
    return folder


@pytest.fixture
def videos(tmp_path: Path, masters: Path) -> Path:
    """A folder with copies of the videos, and a subtitle file next to `city.mp4`."""
    folder = tmp_path / "videos"
    shutil.copytree(masters, folder)
    (folder / "city.srt").write_text(SRT)
    return folder


@pytest.fixture
def make(tmp_path: Path, videos: Path, loaded: tuple[TS2NetModel, TS2NetProcessor]) -> Any:
    """A function that indexes the folder, or other sources."""

    def index(*sources: Path, **options: Any) -> IndexReport:
        options = {"settings": SHORT, "workers": 0, "processor": loaded[1]} | options
        return index_videos(list(sources) or [videos], loaded[0], tmp_path / "index", **options)

    return index


@pytest.fixture
def search_speech(tmp_path: Path) -> Any:
    """A function that searches the speech without a model and returns the file name and second of each moment."""

    def search(text: str, **options: Any) -> list[tuple[str, float]]:
        hits = VideoIndex.open(tmp_path / "index", model="/nowhere").search(text, search_in="speech", **options)
        assert all(hit.found_in == ("speech",) and hit.score is None for hit in hits)
        return [(os.path.basename(hit.video_id), hit.second) for hit in hits]

    return search


def names(videos: list[str]) -> list[str]:
    return [os.path.basename(video) for video in videos]


@pytest.mark.slow
def test_a_phrase_is_found_at_its_second(make, search_speech, videos, tmp_path):
    """A phrase is found in embedded subtitles and files, across two cues, ignoring case, accents and markup."""
    (videos / "city.de-AT.vtt").write_text(VTT)
    report = make()
    assert sorted(names(report.spoken)) == ["city.mp4", "moon.mp4"]
    assert search_speech("choose to go to the MOON!") == [("moon.mp4", 1.5)]
    assert search_speech("to the moon") == [("moon.mp4", 3.25)]
    assert search_speech("city never sleeps") == [("city.mp4", 3.25)]
    assert search_speech("munchen") == search_speech("Grüsse aus") == [("city.mp4", 5.5)]
    assert search_speech("moon city") == search_speech("nobody") == search_speech("an8") == search_speech("...") == []
    (hit,) = VideoIndex.open(tmp_path / "index").search("go moon", search_in="speech")
    assert hit.start <= hit.second < hit.end
    assert hit.spoken == "we choose to go to the moon"
    assert "spoken at" in hit._repr_html_()


@pytest.mark.slow
def test_words_of_a_matroska_file_and_of_other_scripts(make, search_speech, videos):
    """In scripts without spaces between words, a substring of the spoken text is found."""
    write_subtitled(videos / "film.mkv", [(2, "我们明天去北京大学"), (7, "今日は東京に行きます")])
    make()
    assert search_speech("北京") == [("film.mkv", 2.0)]
    assert search_speech("東京") == [("film.mkv", 7.0)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(make, search_speech, videos, encoding):
    (videos / "city.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nÜber den Dächern\n".encode(encoding))
    make()
    assert search_speech("dächern") == [("city.mp4", 1.0)]


def test_a_moment_that_is_seen_and_spoken_comes_first(make, tmp_path, loaded):
    """A moment found in picture and speech comes first; the scores equal those of a picture-only search."""
    make()
    leave_nothing_out(tmp_path / "index")
    index = VideoIndex.open(tmp_path / "index", model=loaded[0], processor=loaded[1])
    pictures = {(hit.video_id, hit.start): hit for hit in index.search("good night", search_in="picture", k=99)}
    assert all(hit.found_in == ("picture",) and hit.spoken is None for hit in pictures.values())
    first, *others = index.search("good night", k=99)
    assert first.found_in == ("picture", "speech")
    assert (os.path.basename(first.video_id), first.second, first.spoken) == ("moon.mp4", 9.0, "good night")
    assert others
    assert all(hit == pictures[hit.video_id, hit.start] for hit in others if hit.video_id != first.video_id)
    assert all(hit.chance is not None for hit in [first, *others])
    scores = [hit.score for hit in others]
    assert scores == sorted(scores, reverse=True)


def test_what_is_no_better_than_chance_is_found_by_its_words_only(make, tmp_path, loaded):
    make()
    index = VideoIndex.open(tmp_path / "index", model=loaded[0], processor=loaded[1])
    (hit,) = index.search("good night", min_score=1e9)
    assert hit.found_in == ("speech",)
    assert hit.score is hit.chance is None


def test_an_index_without_subtitles_is_searched_as_ever(make, masters, tmp_path, loaded):
    """Without subtitles, no speech table is created, and the results are those of a picture search."""
    make(masters / "city.mp4", masters / "quiet.mp4")
    leave_nothing_out(tmp_path / "index")
    index = VideoIndex.open(tmp_path / "index", model=loaded[0], processor=loaded[1])
    assert index.search("rain", k=9, fold=True) == index.search("rain", k=9, fold=True, search_in="picture") != []
    assert index.search("rain", search_in="speech") == []
    assert not (tmp_path / "index" / "spoken.lance").exists()
    assert summarize(tmp_path / "index").num_spoken == 0


@pytest.mark.slow
def test_broken_subtitles_cost_nothing_but_themselves(make, search_speech, videos):
    """Broken subtitles are reported once, the other subtitles are read, and only a change leads to another attempt."""
    (videos / "moon.srt").write_bytes(b"\0\1 nothing of the kind")
    (videos / "city.vtt").write_bytes(b"WEBVTT\n" + b"x" * (2**24 + 1))
    (videos / "quiet.srt").mkdir()
    report = make(workers=1)
    assert len(report.indexed) == 3
    assert {os.path.basename(name): reason for name, reason in report.damaged_subtitles.items()} == {
        "city.vtt": "it has more than 16,777,216 bytes",
        "moon.srt": "it holds no words with a time",
    }
    assert search_speech("moon") == [("moon.mp4", 3.25)]
    assert search_speech("city") == [("city.mp4", 3.25)]
    again = make()
    assert again.damaged_subtitles == {}
    assert again.spoken == []


@pytest.mark.slow
def test_only_files_of_the_video_are_read(make, search_speech, videos, tmp_path):
    """Subtitles of another video, and links that lead out of the folder, are not read."""
    (tmp_path / "secret.txt").write_text(SRT.replace("city", "secret"))
    (videos / "quiet.srt").symlink_to(tmp_path / "secret.txt")
    (videos / "city.part2.srt").write_text(SRT.replace("city", "sequel"))
    (videos / "quiet.en.srt").symlink_to("city.srt")
    make()
    assert search_speech("secret") == search_speech("sequel") == []
    assert sorted(search_speech("city")) == [("city.mp4", 3.25), ("quiet.mp4", 3.25)]


@pytest.mark.slow
def test_subtitles_that_change_come_and_go(make, search_speech, videos):
    """Changed, deleted and new subtitle files update the index without encoding any frame again."""
    make()
    for change, expected in (
        (lambda: (videos / "city.srt").write_text(SRT.replace("00:03,250", "00:04,750")), [("city.mp4", 4.75)]),
        (lambda: (videos / "city.srt").unlink(), []),
        (lambda: (videos / "quiet.en.srt").write_text(SRT), [("quiet.mp4", 3.25)]),
    ):
        change()
        report = make()
        assert (report.indexed, report.replaced, report.hours) == ([], [], 0)
        assert search_speech("city sleeps") == expected
    assert make().spoken == []


@pytest.mark.slow
def test_moved_replaced_and_removed_videos(make, search_speech, videos, masters, tmp_path):
    """The speech of a video is moved, replaced and removed together with the video."""
    make()
    for name in ("city.mp4", "city.srt"):
        (videos / name).rename(videos / name.replace("city", "town"))
    report = make()
    assert names(list(report.moved.values())) == ["town.mp4"]
    assert search_speech("city") == [("town.mp4", 3.25)]
    shutil.copy(masters / "quiet.mp4", videos / "moon.mp4")
    assert names(make().replaced) == ["moon.mp4"]
    assert search_speech("moon") == []
    with Store.write(tmp_path / "index") as store:
        store.drop([str(videos / "town.mp4")])
    assert search_speech("city") == []
    assert summarize(tmp_path / "index").num_spoken == 0


@pytest.mark.slow
def test_relocated_videos(make, search_speech, videos, tmp_path):
    make()
    videos.rename(tmp_path / "elsewhere")
    relocate(tmp_path / "index", tmp_path / "elsewhere")
    assert search_speech("city", path="elsewhere/*") == [("city.mp4", 3.25)]
    assert search_speech("city", path="videos/*") == []
    assert make(tmp_path / "elsewhere").spoken == []


@pytest.mark.slow
def test_filters(make, search_speech, videos, tmp_path):
    about = tmp_path / "about.csv"
    about.write_text("file,kind\ncity.mp4,town\nmoon.mp4,space\n")
    (videos / "moon.srt").write_text(SRT)
    make(metadata=about)
    assert sorted(search_speech("city")) == [("city.mp4", 3.25), ("moon.mp4", 3.25)]
    assert (
        search_speech("city", metadata={"kind": "space"})
        == search_speech("city", path="moon*")
        == [("moon.mp4", 3.25)]
    )
    assert search_speech("city", videos=[str(videos / "city.mp4")]) == [("city.mp4", 3.25)]
    assert search_speech("city", videos=[]) == search_speech("city", metadata={"kind": "none"}) == []


@pytest.mark.slow
def test_many_moments_of_one_video(make, search_speech, videos):
    """A video gives all its moments that don't overlap, within `k` and `per_video`."""
    cues = [f"{n}\n00:00:{n:02},500 --> 00:00:{n:02},900\nagain and again\n" for n in range(12)]
    (videos / "city.srt").write_text("\n".join(cues))
    make()
    seconds = [second for _, second in search_speech("again", k=9)]
    assert len(seconds) == 3
    assert len(search_speech("again", per_video=2)) == 2
    assert len(search_speech("again", k=1)) == 1


@pytest.mark.slow
def test_several_indexes(make, videos, tmp_path, loaded):
    """A search of two indexes finds the phrases of both, and lists a moment that both contain once."""
    make()
    other = tmp_path / "other"
    (videos / "quiet.srt").write_text(SRT)
    index_videos([videos], loaded[0], other, processor=loaded[1], settings=SHORT, workers=0)
    indexes = [VideoIndex.open(path, model=loaded[0], processor=loaded[1]) for path in (tmp_path / "index", other)]
    for options in (SearchOptions(search_in="speech"), SearchOptions(min_score=1e9)):
        (hits,) = search_several(indexes, ["city sleeps"], options)
        assert sorted(names([hit.video_id for hit in hits])) == ["city.mp4", "quiet.mp4"]
        assert all(isinstance(hit, Hit) and hit.second == 3.25 for hit in hits)


@pytest.mark.slow
def test_an_index_from_before_is_extended(make, search_speech, videos, tmp_path):
    """An index written before subtitles were supported gets them in the next run, without encoding any frame."""
    make()
    database = Store.open(tmp_path / "index")._database
    database.drop_table("spoken")
    noted = database.open_table("names")
    noted.drop_columns(["subtitles"])
    assert Store.open(tmp_path / "index").about.format == FORMAT
    assert search_speech("city") == []
    report = make()
    assert (report.indexed, report.hours, sorted(names(report.spoken))) == ([], 0, ["city.mp4", "moon.mp4"])
    assert search_speech("city") == [("city.mp4", 3.25)]


@pytest.mark.slow
def test_repair(make, search_speech, tmp_path):
    """An unreadable speech table is rebuilt from the subtitles."""
    make()
    for data in (tmp_path / "index" / "spoken.lance" / "data").iterdir():
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(OSError, match="index --repair"):
        search_speech("city")
    report = index_videos([], None, tmp_path / "index", repair=True, workers=0)
    assert (report.lost, report.hours, sorted(names(report.spoken))) == ([], 0, ["city.mp4", "moon.mp4"])
    assert search_speech("city") == [("city.mp4", 3.25)]


@pytest.mark.slow
def test_repair_of_changed_words(make, search_speech, tmp_path):
    """After damage to the text that the database doesn't notice, a repair reads the subtitles again."""
    make()
    for data in (tmp_path / "index" / "spoken.lance" / "data").iterdir():
        data.write_bytes(data.read_bytes().replace(b"city", b"bity"))
    report = index_videos([], None, tmp_path / "index", repair=True, workers=0)
    assert (report.lost, report.hours, sorted(names(report.spoken))) == ([], 0, ["city.mp4", "moon.mp4"])
    assert search_speech("city") == [("city.mp4", 3.25)]


@pytest.mark.slow
def test_repair_of_the_full_text_index(make, search_speech, tmp_path):
    """A damaged full-text index is rebuilt without reading any subtitles."""
    make()
    for file in (tmp_path / "index" / "spoken.lance" / "_indices").rglob("*.lance"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(OSError, match="index --repair"):
        search_speech("city")
    assert index_videos([], None, tmp_path / "index", repair=True, workers=0).spoken == []
    assert search_speech("city") == [("city.mp4", 3.25)]
    (index,) = Store.open(tmp_path / "index")._database.open_table("spoken").list_indices()
    assert index.num_unindexed_rows == 0


@pytest.mark.slow
def test_words_over_a_picture_that_stays(make, search_speech, tmp_path):
    """Speech is found at its time even where the index skips windows because the picture doesn't change."""
    still = tmp_path / "still"
    still.mkdir()
    write_video(still / "slide.mp4", frames=3, fps=1, pts=[0, 1, 30])
    (still / "slide.srt").write_text(SRT.replace("00:00:03", "00:00:20").replace("00:00:05", "00:00:22"))
    make(still)
    assert summarize(tmp_path / "index").num_windows < 10
    (hit,) = VideoIndex.open(tmp_path / "index").search("city", search_in="speech")
    assert (hit.second, hit.start <= 20.25 < hit.end) == (20.25, True)
    assert hit.window in {row["window"] for row in rows_of(tmp_path / "index")}


@pytest.mark.slow
def test_a_clip_of_an_archive(make, search_speech, masters, tmp_path):
    """Only the speech between the start and end of the clip is found, at seconds of the whole video."""
    note = tmp_path / "moon.json"
    note.write_text(json.dumps({"id": "moon", "start": 3.0, "end": 8.0}))
    with tarfile.open(tmp_path / "test-00000.tar", "w") as tar:
        tar.add(masters / "moon.mp4", "moon.mp4")
        tar.add(note, "moon.json")
    make(tmp_path / "test-00000.tar")
    assert search_speech("moon") == [("test-00000.tar#moon", 3.25)]
    assert search_speech("choose") == search_speech("night") == []


@pytest.mark.slow
def test_subtitles_beside_a_clip_in_an_archive(make, search_speech, masters, tmp_path):
    """Subtitles with the name of a clip in its folder are read for the part of the clip, and again after a change."""
    note = tmp_path / "note.json"
    note.write_text(json.dumps({"id": "The city", "start": 3.0, "end": 8.0}))
    others = {"a/city.en.vtt": VTT, "city.srt": SRT.replace("city", "elsewhere"), "a/city.x9.srt": SRT}

    def pack(text: str) -> None:
        with tarfile.open(tmp_path / "test-00000.tar", "w") as tar:
            tar.add(masters / "city.mp4", "a/city.mp4")
            tar.add(note, "a/city.json")
            for name, content in {"a/city.srt": text, **others}.items():
                (tmp_path / "words").write_text(content)
                tar.add(tmp_path / "words", name)

    pack(SRT + SRT.replace("00:00:0", "00:00:1").replace("city", "night"))
    make(tmp_path / "test-00000.tar", workers=1)
    assert search_speech("the city") == [("test-00000.tar#The city", 3.25)]
    assert search_speech("münchen") == [("test-00000.tar#The city", 5.5)]
    assert search_speech("elsewhere") == search_speech("night") == []
    pack(SRT.replace("city", "town"))
    make(tmp_path / "test-00000.tar")
    assert search_speech("city") == []
    assert search_speech("town") == [("test-00000.tar#The city", 3.25)]


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed(make, search_speech, videos, tmp_path):
    """Speech without a video is not found, and the next run removes it."""
    make()
    index = tmp_path / "index"
    rows = Store.open(index)._database.open_table("spoken").to_arrow()
    with Store.write(index) as store:
        store.drop([str(videos / "city.mp4")])
    Store.open(index)._database.open_table("spoken").add(rows)
    assert search_speech("city") == []
    (videos / "city.mp4").unlink()
    make()
    left = Store.open(index)._database.open_table("spoken").to_arrow()["text"].to_pylist()
    assert "good night" in left
    assert "The city never sleeps" not in left
