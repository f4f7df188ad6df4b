"""User data: every supported form of captions, and no access to files outside the data."""

import json
import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import DatasetBuilder, Features, List, Value, Video
from huggingface_hub import HfApi

from support.loopback_hub import LoopbackHub
from support.video_files import write_video
from ts2net.benchmarks import Row
from ts2net.data import load_benchmark
from ts2net.data.columns import standard_features
from ts2net.data.folder import read_folder
from ts2net.data.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "cats").mkdir(parents=True)
    write_video(folder / "dog.mp4", frames=6, fps=6)
    write_video(folder / "cats" / "cat.1.mkv", frames=6, fps=6)
    return folder


DOG = Row("dog.mp4", ("a dog runs", "a dog, running"))
CAT = Row("cats/cat.1.mkv", ("a cat",))


def rows(folder: Path, split: str = "train", captions: Path | None = None) -> list[Row]:
    return [video.row for video in read_folder(folder, split, captions)]


# ----------------------------------------------------------------------------------------------------------------
# A folder
# ----------------------------------------------------------------------------------------------------------------


def test_captions_in_csv(videos: Path) -> None:
    text = 'file,caption,rating\ndog.mp4,a dog runs,5\ncats/cat.1.mkv,a cat,3\ndog.mp4,"a dog, running",4\n'
    (videos / "captions.csv").write_text(text)
    assert rows(videos) == [DOG, CAT]


def test_captions_in_json_lines(videos: Path) -> None:
    lines = [
        {"file": "dog.mp4", "captions": ["a dog runs", "a dog,  running"]},
        {"file": CAT.video_id, "caption": "a cat"},
    ]
    (videos / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert rows(videos) == [DOG, CAT]


def test_captions_in_a_text_beside_each_video(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "dog.txt").write_text("a dog runs\n\na dog, running\n")
    (videos / "cats" / "cat.1.txt").write_text("a cat\n")
    write_video(videos / "unseen.mp4", frames=2)
    with caplog.at_level(logging.WARNING):
        assert rows(videos) == [DOG, CAT]
    assert "1 videos have no text file beside them" in caplog.text
    assert "unseen.mp4" in caplog.text


def test_moments_are_rows_of_their_own(videos: Path) -> None:
    lines = ["file,caption,start,end", "dog.mp4,it sits,0,2.5", "dog.mp4,it runs,2.5,", "dog.mp4,it sits down,0,2.5"]
    (videos / "captions.csv").write_text("\n".join([*lines, "dog.mp4,all,,"]))
    assert rows(videos) == [
        Row("dog.mp4@0-2.5", ("it sits", "it sits down"), 0.0, 2.5),
        Row("dog.mp4@2.5-", ("it runs",), 2.5, None),
        Row("dog.mp4", ("all",)),
    ]


def test_moments_that_differ_have_ids_that_differ(videos: Path) -> None:
    """IDs of moments that differ by milliseconds differ, also late in a video; a missing start and 0 give one ID."""
    lines = ["file,caption,start,end", "dog.mp4,it sits,7201.251,", "dog.mp4,it runs,7201.254,"]
    (videos / "captions.csv").write_text("\n".join([*lines, "dog.mp4,first,,5", "dog.mp4,at first,0,5"]))
    assert rows(videos) == [
        Row("dog.mp4@7201.251-", ("it sits",), 7201.251, None),
        Row("dog.mp4@7201.254-", ("it runs",), 7201.254, None),
        Row("dog.mp4@0-5", ("first", "at first"), 0.0, 5.0),
    ]


def test_splits_are_files_or_folders(videos: Path, tmp_path: Path) -> None:
    """A split is a captions file or a folder, and a missing one is an error, so that splits are never confused."""
    (videos / "val.csv").write_text("file,caption\ndog.mp4,a dog\n")
    (videos / "cats" / "cat.1.txt").write_text("a cat\n")
    assert rows(videos, "val") == [Row("dog.mp4", ("a dog",))]
    assert rows(videos, "cats") == [Row("cat.1.mkv", ("a cat",))]
    with pytest.raises(ValueError, match=r"no split 'test'; expected test\.csv, test\.jsonl or a folder test"):
        rows(videos, "test")
    elsewhere = tmp_path / "mine.csv"
    elsewhere.write_text("file,caption\ndog.mp4,a dog\n")
    assert rows(videos, "test", elsewhere) == [Row("dog.mp4", ("a dog",))]


@pytest.mark.parametrize(
    "file", ["../secret.mp4", "/etc/passwd", "cats/../../secret.mp4", "link.mp4", "C:\\a.mp4", ""]
)
def test_captions_name_no_file_outside(videos: Path, file: str) -> None:
    (videos.parent / "secret.mp4").write_bytes(b"secret")
    (videos / "link.mp4").symlink_to(videos.parent / "secret.mp4")
    (videos / "captions.jsonl").write_text(json.dumps({"file": file, "caption": "a secret"}))
    with pytest.raises(ValueError, match=r"captions\.jsonl:1: .* isn't the path of a file in"):
        rows(videos)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("captions.csv", "path,caption\na.mp4,x\n", r"captions\.csv:1: expected a column 'file', found \['path'"),
        ("captions.csv", "file,caption\na.mp4,\n", r"captions\.csv:2: expected a caption"),
        ("captions.csv", "file,caption,start\na.mp4,x,soon\n", r"captions\.csv:2: start: expected seconds.*'soon'"),
        ("captions.csv", "file,caption,start,end\na.mp4,x,3,2\n", r"captions\.csv:2: end=2.0 s lies before start"),
        ("captions.csv", "file,caption\n", r"captions\.csv: no captions in it"),
        ("captions.jsonl", '{"file": "a.mp4"', r"captions\.jsonl:1: not JSON"),
        ("captions.jsonl", '["a.mp4", "x"]', r"captions\.jsonl:1: expected an object"),
        ("captions.jsonl", '{"file": "a.mp4", "captions": []}', r"captions\.jsonl:1\.captions: expected at least one"),
        (
            "captions.jsonl",
            '{"file": "a.mp4", "caption": 3}',
            r"captions\.jsonl:1\.caption: expected a string, found 3",
        ),
        ("dog.txt", "\n", r"dog\.txt: expected a caption a line, found none"),
        ("notes.md", "", r"no captions; expected captions\.csv, .*\(found 2\)"),
    ],
)
def test_wrong_captions_are_told_with_their_line(videos: Path, name: str, text: str, message: str) -> None:
    (videos / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        rows(videos)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_folder_is_loaded_as_it_is(videos: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Rows name the original files; a missing file is logged and kept, so that readers can count it as broken."""
    (videos / "captions.csv").write_text("file,caption\ndog.mp4,a dog\ngone.mp4,a ghost\n")
    with caplog.at_level(logging.WARNING):
        dataset = load_benchmark("folder", videos, "train", streaming=streaming)
    assert "1 of 2 videos aren't there: ['gone.mp4']" in caplog.text
    assert dataset.features == standard_features()
    dog, ghost = list(dataset)
    assert dog["captions"] == ["a dog"]
    assert dog["video"] == {"bytes": None, "path": str(videos / "dog.mp4")}
    assert ghost["video"] == {"bytes": None, "path": str(videos / "gone.mp4")}


def test_a_folder_is_prepared_and_loaded(videos: Path, tmp_path: Path) -> None:
    (videos / "captions.csv").write_text("file,caption\ndog.mp4,a dog\ngone.mp4,a ghost\n")
    (manifest,) = prepare("folder", tmp_path / "out", videos=videos, workers=0)
    assert [remark.video_id for remark in manifest.missing] == ["gone.mp4"]
    (row,) = load_benchmark("folder", tmp_path / "out", "train")
    assert (row["id"], row["captions"]) == ("dog.mp4", ["a dog"])
    assert row["video"]["bytes"] == (videos / "dog.mp4").read_bytes()


# ----------------------------------------------------------------------------------------------------------------
# Other datasets
# ----------------------------------------------------------------------------------------------------------------


def write_parquet(folder: Path, rows: list[dict], features: Features) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # `Dataset.to_parquet` would open the files that its videos name.
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), folder / "train-00000.parquet")
    return folder


FILM_FEATURES = Features({"film": Video(decode=False), "text": Value("string"), "key": Value("int64")})


@pytest.mark.parametrize("streaming", [True, False])
def test_any_dataset_with_videos_and_captions(
    tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    films = [
        {"film": {"bytes": b"first", "path": "a.mp4"}, "text": "a  film", "key": 1},
        {"film": {"bytes": b"second", "path": None}, "text": "another", "key": 2},
    ]
    folder = write_parquet(tmp_path / "films", films, FILM_FEATURES)
    columns = {"video_column": "film", "caption_column": "text"}
    dataset = load_benchmark("dataset", folder, "train", streaming=streaming, **columns)
    assert dataset.features == standard_features()
    first, second = list(dataset)
    assert first == {
        "id": "a.mp4",
        "captions": ["a film"],
        "start": None,
        "end": None,
        "group": None,
        "video": {"bytes": b"first", "path": None},
    }
    assert second["video"]["bytes"] == b"second"
    assert len(second["id"]) == 32  # hash of the bytes
    named = load_benchmark("dataset", folder, "train", streaming=streaming, id_column="key", **columns)
    assert [row["id"] for row in named] == ["1", "2"]


def test_parquet_is_left_without_a_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` would sleep five seconds after each early end of reading shuffled Parquet files."""
    assert hasattr(DatasetBuilder, "SLEEP_ON_THREADS_SHUTDOWNS"), "datasets has renamed what turns the sleep off"
    folder = tmp_path / "films"
    for number in range(3):
        films = [{"film": {"bytes": b"%d" % n, "path": None}, "text": "a film", "key": n} for n in range(20)]
        (write_parquet(folder, films, FILM_FEATURES) / "train-00000.parquet").rename(folder / f"{number}.parquet")
    slept: list[float] = []
    monkeypatch.setattr("datasets.iterable_dataset.time.sleep", slept.append)
    dataset = load_benchmark("dataset", folder, "train", video_column="film", caption_column="text", id_column="key")
    rows = dataset.shuffle(seed=0, buffer_size=4).iter(batch_size=1)
    next(rows)
    rows.close()
    assert sorted(int(row["id"]) for row in dataset.shuffle(seed=0, buffer_size=4)) == sorted([*range(20)] * 3)
    assert slept == []


def test_zero_is_an_id(videos: Path) -> None:
    """The ID 0 is valid: IDs often start at 0, and a video in a file has no bytes to hash instead."""
    (videos / "metadata.csv").write_text("file_name,caption,key\ndog.mp4,a dog,0\ncats/cat.1.mkv,a cat,1\n")
    dataset = load_benchmark("dataset", videos, "train", id_column="key")
    assert {row["captions"][0]: row["id"] for row in dataset} == {"a dog": "0", "a cat": "1"}


def test_plain_bytes_lists_of_captions_and_moments(tmp_path: Path) -> None:
    features = Features(
        {"video": Value("binary"), "caption": List(Value("string")), "from": Value("float32"), "to": Value("int32")}
    )
    clips = [{"video": b"video", "caption": ["one", "two"], "from": 0.5, "to": 2}]
    folder = write_parquet(tmp_path / "clips", clips, features)
    (row,) = load_benchmark("dataset", folder, "train", start_column="from", end_column="to")
    assert (row["captions"], row["start"], row["end"]) == (["one", "two"], 0.5, 2.0)
    assert row["video"]["bytes"] == b"video"


def test_a_folder_of_datasets_own_kind(videos: Path) -> None:
    """Paths from `videofolder` are accepted inside the dataset's folder."""
    (videos / "metadata.csv").write_text("file_name,caption\ndog.mp4,a dog\ncats/cat.1.mkv,a cat\n")
    dataset = load_benchmark("dataset", videos, "train")
    contents = {row["captions"][0]: Path(row["video"]["path"]).read_bytes() for row in dataset}
    assert contents["a dog"] == (videos / "dog.mp4").read_bytes()


def test_columns_that_are_not_there_are_told(tmp_path: Path) -> None:
    film = {"film": {"bytes": b"first", "path": "a.mp4"}, "text": "a film", "key": 1}
    folder = write_parquet(tmp_path / "films", [film], FILM_FEATURES)
    with pytest.raises(ValueError, match="no column 'video', found film, text, key; .* with video_column"):
        load_benchmark("dataset", folder, "train")
    with pytest.raises(ValueError, match="no column 'caption', .* with caption_column"):
        load_benchmark("dataset", folder, "train", video_column="film")
    with pytest.raises(ValueError, match="column 'key' holds 1, expected a string or a list of them"):
        list(load_benchmark("dataset", folder, "train", video_column="film", caption_column="key"))
    with pytest.raises(ValueError, match="column 'text' holds 'a film', expected videos"):
        list(load_benchmark("dataset", folder, "train", video_column="text", caption_column="text"))


OUTSIDE = [
    "/etc/hostname",
    "http://127.0.0.1:9/a.mp4",
    "hf://datasets/other/repo/a.mp4",
    "zip://a.mp4::hf://datasets/other/repo/a.zip",
    # Only the first part of a chained URL is opened.
    "/etc/hostname::hf://datasets/me/clips@main/a.mp4",
    "file:///etc/hostname::hf://datasets/me/clips@main/a.mp4",
    "http://127.0.0.1:9/secret::hf://datasets/me/clips@main/a.mp4",
    "zip://a.mp4::/etc/a.zip::hf://datasets/me/clips@main/a.zip",
    "hf://datasets/me/clips@main/../../../other/repo/resolve/main/a.mp4",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_dataset_points_at_nothing_outside_itself(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrusted dataset can't cause reads of local files or requests to other addresses."""
    monkeypatch.chdir(tmp_path)
    film = {"film": {"bytes": None, "path": path}, "text": "a film", "key": 1}
    write_parquet(tmp_path / "me" / "clips", [film], FILM_FEATURES)
    with pytest.raises(ValueError, match="lies outside of the dataset, so it isn't opened"):
        list(load_benchmark("dataset", "me/clips", "train", video_column="film", caption_column="text"))


def test_a_dataset_points_at_no_other_repository_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths into the cache are accepted only for the dataset's own repository, because others may be private."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)

    def read(repository: str) -> dict:
        video = tmp_path / "hub" / repository / "snapshots" / "0" / "a.mp4"
        video.parent.mkdir(parents=True)
        video.write_bytes(b"video")
        film = {"film": {"bytes": None, "path": str(video)}, "text": "a film", "key": 1}
        write_parquet(tmp_path / "me" / "clips", [film], FILM_FEATURES)
        (row,) = load_benchmark("dataset", "me/clips", "train", video_column="film", caption_column="text")
        return row["video"]

    assert Path(read("datasets--me--clips")["path"]).read_bytes() == b"video"
    with pytest.raises(ValueError, match="lies outside of the dataset"):
        read("datasets--me--diaries")


def test_a_dataset_of_the_hub_with_its_videos_in_an_archive(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos in an archive in a repository can be streamed."""
    (videos / "metadata.csv").write_text("file_name,caption\ndog.mp4,a dog\n")
    (videos / "cats" / "cat.1.mkv").unlink()
    archive = shutil.make_archive(str(tmp_path / "clips"), "zip", videos)
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        api = HfApi(token=hub.token)
        api.create_repo("tester/clips", repo_type="dataset", private=True)
        api.upload_file(path_or_fileobj=archive, path_in_repo="clips.zip", repo_id="tester/clips", repo_type="dataset")
        (row,) = load_benchmark("dataset", "tester/clips", "train", token=hub.token)
    assert (row["id"], row["captions"]) == ("dog.mp4", ["a dog"])
    assert row["video"]["bytes"] == (videos / "dog.mp4").read_bytes()
