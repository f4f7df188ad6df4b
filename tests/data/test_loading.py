"""Prepared shards as a `datasets` dataset: every clip once under splitting, shuffling and resuming."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset, IterableDataset, Video, load_dataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from ts2net.benchmarks import Row
from ts2net.data import load_benchmark, read_manifest
from ts2net.data.columns import standard_features
from ts2net.data.dataset_card import write_card
from ts2net.data.manifest import Manifest, Shard
from ts2net.data.shards import ShardWriter, assign_to_shards, shard_name
from ts2net.files import write_whole

ROWS = [
    Row("plain", ("one", "two")),
    Row("1006_Film_00.01.02.003-00.01.05.006", ("a moment",), 1.0, 2.5),
    Row("folder/own video.mp4@1-2", ("'quoted', with a comma",), group="motion-0001"),
    Row("caf\u00e9 \u4e2d%2E", ("\u00fcber",)),
    *(Row(f"video{number}", (f"caption {number}",)) for number in range(60)),
]
IDS = Counter(row.video_id for row in ROWS)
NUM_SHARDS = 8


def video_of(row: Row) -> bytes:
    """Bytes that are unique to each clip. No test here decodes them."""
    return row.video_id.encode() * 100


def write_prepared(folder: Path, split: str = "train", benchmark: str = "vatex") -> Path:
    """A prepared folder with placeholder bytes as videos."""
    folder.mkdir(exist_ok=True)
    shards = []
    for number, indices in enumerate(assign_to_shards([row.video_id for row in ROWS], NUM_SHARDS, seed=0)):
        path = folder / shard_name(split, number)
        with ShardWriter(path) as writer:
            for index in indices:
                writer.add(ROWS[index], video_of(ROWS[index]))
        shards.append(Shard(path.name, writer.videos, writer.captions, path.stat().st_size))
    manifest = Manifest(benchmark, split, len(ROWS), sum(len(row.captions) for row in ROWS), tuple(shards))
    write_whole(folder / f"{split}.json", manifest.to_json())
    write_card(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared") / "vatex")


@pytest.fixture
def stream(folder: Path) -> IterableDataset:
    return load_benchmark("vatex", folder, "train")


def ids(rows) -> Counter:
    return Counter(row["id"] for row in rows)


def check(dataset) -> None:
    """Check that the dataset has all rows with all written values, undecoded."""
    assert dataset.features == standard_features()
    rows = {row["id"]: row for row in dataset}
    assert rows.keys() == IDS.keys()
    for row in ROWS:
        loaded = rows[row.video_id]
        assert loaded["captions"] == list(row.captions)
        assert (loaded["start"], loaded["end"], loaded["group"]) == (row.start, row.end, row.group)
        assert loaded["video"]["bytes"] == video_of(row)


def test_a_stream_has_the_standard_columns(stream: IterableDataset) -> None:
    assert stream.num_shards == NUM_SHARDS
    check(stream)


def test_without_streaming_it_lies_on_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dataset is memory-mapped from the cache, so that its videos take no memory."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    dataset = load_benchmark("vatex", folder, "train", streaming=False)
    assert isinstance(dataset, Dataset)
    assert len(dataset.cache_files) > 0
    check(dataset)


def test_datasets_alone_reads_it_by_its_card(folder: Path) -> None:
    """`datasets` can read the folder without ts2net or a library that decodes videos."""
    rows = {row["json"]["id"]: row for row in load_dataset(str(folder), split="train", streaming=True)}
    assert rows.keys() == IDS.keys()
    moment = rows[ROWS[1].video_id]
    assert (moment["json"]["start"], moment["json"]["end"]) == (1.0, 2.5)
    assert moment["mp4"]["bytes"] == video_of(ROWS[1])


def test_a_file_of_the_same_name_is_not_taken_for_the_video(
    stream: IterableDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` would prefer a file in the current folder to the bytes of a `Video`."""
    monkeypatch.chdir(tmp_path)
    for row in ROWS:
        if "/" not in row.video_id:
            Path(f"{row.video_id}.mp4").write_bytes(b"another")
    check(stream)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_share_no_clip_and_miss_none(stream: IterableDataset, parts: int) -> None:
    assert sum((ids(stream.shard(parts, index)) for index in range(parts)), Counter()) == IDS
    nodes = [split_dataset_by_node(stream, rank, parts) for rank in range(parts)]
    assert sum((ids(node) for node in nodes), Counter()) == IDS
    assert max(sum(ids(node).values()) for node in nodes) <= -(-len(ROWS) // parts) + parts


def test_workers_share_no_clip_and_miss_none(stream: IterableDataset) -> None:
    assert ids(DataLoader(stream, batch_size=None, num_workers=2)) == IDS


def test_shuffling_follows_its_seed_and_epoch(stream: IterableDataset) -> None:
    def order(seed: int, epoch: int = 0) -> list[str]:
        shuffled = stream.shuffle(seed=seed, buffer_size=16)
        shuffled.set_epoch(epoch)
        return [row["id"] for row in shuffled]

    first = order(0)
    assert Counter(first) == IDS
    assert order(0) == first
    assert order(1) != first
    assert Counter(order(0, epoch=1)) == IDS
    assert order(0, epoch=1) != first


@pytest.mark.parametrize("num_read", [0, 1, 7, 8, 30, 63, 64])
def test_a_position_is_restored_exactly(folder: Path, num_read: int) -> None:
    """A position restored from JSON, also inside a shard, continues with the next row."""
    order = [row["id"] for row in load_benchmark("vatex", folder, "train")]
    stream = load_benchmark("vatex", folder, "train")
    rows = iter(stream)
    assert [next(rows)["id"] for _ in range(num_read)] == order[:num_read]
    position = json.loads(json.dumps(stream.state_dict()))
    resumed = load_benchmark("vatex", folder, "train")
    resumed.load_state_dict(position)
    assert [row["id"] for row in resumed] == order[num_read:]


def test_the_manifest_counts_videos_and_captions(folder: Path) -> None:
    manifest = read_manifest(folder, "train")
    assert manifest is not None
    assert (manifest.videos, manifest.captions) == (len(ROWS), len(ROWS) + 1)
    assert read_manifest(folder, "test") is None


# ----------------------------------------------------------------------------------------------------------------
# Error messages
# ----------------------------------------------------------------------------------------------------------------


def test_wrong_names_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no benchmark 'vatx', only msrvtt"):
        load_benchmark("vatx", folder, "train")
    with pytest.raises(ValueError, match="holds 'vatex', not 'msrvtt'"):
        load_benchmark("msrvtt", folder, "train")
    with pytest.raises(ValueError, match=r"no split 'test' made by `ts2net prepare`, only train"):
        load_benchmark("vatex", folder, "test")
    with pytest.raises(FileNotFoundError, match=r"there is no folder no/such/folder; a repository"):
        load_benchmark("vatex", "no/such/folder", "train")
    with pytest.raises(ValueError, match="letters, digits and _"):
        load_benchmark("vatex", folder, "../train")
    with pytest.raises(TypeError, match="takes no video_column"):
        load_benchmark("vatex", folder, "train", video_column="film")


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped folder is an error without a request, because a repository of that name may exist."""
    monkeypatch.chdir(folder.parent)
    for name in ("vatx", "./vatx", "vatex/shards", str(folder / "no" / "such")):
        with pytest.raises(FileNotFoundError, match="no folder|no such folder"):
            load_benchmark("vatex", name, "train")
    with pytest.raises(NotADirectoryError, match=r"train\.json is a file"):
        read_manifest(folder / "train.json", "train")


@pytest.mark.slow
def test_without_a_network_both_ways_are_named() -> None:
    """Without the Hub, the error names both the missing folder and the Hub, since the name fits both."""
    code = "from ts2net.data import read_manifest; read_manifest('owner/vatex', 'train')"
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"},  # nothing listens on port 9
        capture_output=True,
        text=True,
    )
    last = child.stderr.splitlines()[-1]
    assert last.startswith(
        "ConnectionError: owner/vatex: no such folder, and the Hub can't be asked for such a dataset"
    )


def test_a_shard_that_is_not_whole_is_an_error(tmp_path: Path) -> None:
    """Truncated and missing shards are errors; training would silently use less data."""
    folder = write_prepared(tmp_path / "vatex")
    os.truncate(folder / "train-00002.tar", 1000)
    with pytest.raises(ValueError, match=r"train-00002\.tar: 1000 bytes, expected \d+"):
        load_benchmark("vatex", folder, "train")
    (folder / "train-00002.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 shards are missing, such as train-00002\.tar"):
        load_benchmark("vatex", folder, "train")


def _set_shard_name(manifest: dict) -> None:
    manifest["shards"][0]["file"] = "../../elsewhere.tar"


def _set_count(manifest: dict) -> None:
    manifest["captions"] += 1


def _drop_shards(manifest: dict) -> None:
    del manifest["shards"]


@pytest.mark.parametrize("spoil", [_set_shard_name, _set_count, _drop_shards])
def test_a_manifest_is_checked(folder: Path, tmp_path: Path, spoil) -> None:
    """A manifest is validated: an untrusted one could name other files on this machine."""
    manifest = json.loads((folder / "train.json").read_text())
    spoil(manifest)
    (tmp_path / "train.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"train\.json: (not a manifest|its counts disagree, or its shards)"):
        load_benchmark("vatex", tmp_path, "train")


def test_a_clip_without_captions_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    with ShardWriter(folder / "train-00000.tar") as writer:
        writer.add(Row("video0", ()), b"video")
    size = (folder / "train-00000.tar").stat().st_size
    manifest = Manifest("vatex", "train", 1, 0, (Shard("train-00000.tar", 1, 0, size),))
    write_whole(folder / "train.json", manifest.to_json())
    with pytest.raises(ValueError, match=r"train-00000\.tar: 'video0' isn't a video with an id and captions"):
        next(iter(load_benchmark("vatex", folder, "train")))


def test_videos_stay_undecoded(stream: IterableDataset) -> None:
    """Rows hold encoded videos, because the processor decodes them."""
    assert stream.features["video"] == Video(decode=False)
