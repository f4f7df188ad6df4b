"""Training batches: independent of the hardware, and resumable at any step."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, load_dataset

from support.loopback_hub import LoopbackHub
from support.streamed_data import FEATURES, clip, row, stream
from support.tiny_models import tiny_processor
from support.training_batches import NO_VIDEO, SETTINGS, Step, eight_shards, read, samples, video_ids
from ts2net.data.dataset_card import push_prepared
from ts2net.data.lanes import DataLoadingError, caption_of_pass, count_lanes, stable_hash
from ts2net.data.prepare import prepare
from ts2net.data.training_batches import TrainingBatches
from ts2net.videos.broken import BrokenVideo

pytestmark = pytest.mark.filterwarnings("error:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def nine_steps() -> list[Step]:
    """Nine steps of one process without workers: three passes over the 24 videos."""
    return read(9, dataset=eight_shards(broken=(4, 17)))[0]


# Independence of the hardware


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2, 4])
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_global_batches_do_not_depend_on_processes_and_workers(num_processes: int, num_workers: int, nine_steps):
    """Global batches don't depend on the hardware, with broken videos and over several passes."""
    steps, _, broken = read(
        9, num_processes=num_processes, num_workers=num_workers, dataset=eight_shards(broken=(4, 17))
    )
    assert steps == nine_steps
    assert all(len(step) == 8 for step in steps)
    assert {video.video_id for video in broken} == {"clip4", "clip17"}


@pytest.mark.slow
def test_a_process_gets_its_samples_in_one_order_from_any_number_of_workers():
    """The order in a process doesn't depend on its workers, because floating-point sums depend on their order."""
    orders = [
        [
            samples(batch)
            for batch in TrainingBatches(eight_shards(), tiny_processor(), num_workers=w, **SETTINGS).batches(4)
        ]
        for w in (0, 1, 3)
    ]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 2, 5])
@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 0), (2, 3), (4, 1)])
def test_a_run_goes_on_exactly_where_it_stopped_on_other_hardware(
    stop: int, num_processes: int, num_workers: int, nine_steps
):
    """A resumed run reads each remaining sample once, for any processes and workers before and after."""
    dataset = eight_shards(broken=(4, 17))
    first, positions, _ = read(stop, num_processes=2, num_workers=1, dataset=dataset)
    positions = json.loads(json.dumps(positions))
    rest, _, _ = read(
        9 - stop, num_processes=num_processes, num_workers=num_workers, dataset=dataset, positions=positions
    )
    assert first + rest == nine_steps


def test_positions_count_what_was_taken_and_not_what_workers_read_ahead(nine_steps):
    """Positions count only consumed batches: batches that workers read ahead are lost at a stop and read again."""
    reader = TrainingBatches(eight_shards(broken=(4, 17)), tiny_processor(), num_workers=2, **SETTINGS)
    batches = reader.batches(9)
    steps = [set(samples(next(batches))) for _ in range(2)]
    batches.close()
    steps += [set(samples(batch)) for batch in reader.batches(2)]
    assert steps == nine_steps[:4]


def test_each_batch_carries_the_positions_after_it():
    """Each batch has the positions after it, because the trainer's step may be some batches behind the reader."""
    reader = TrainingBatches(eight_shards(), tiny_processor(), **SETTINGS)
    second = [batch["positions"] for batch in reader.batches(2)][-1]
    assert second == reader.positions == {str(lane): [0, 2] for lane in range(8)}


def test_what_lies_before_a_position_is_not_decoded():
    """Videos before the position are not decoded, since that would slow down resuming, or reported if broken."""
    dataset = stream([[row(0), row(1)], [row(2), row(3)]])
    _, positions, _ = read(1, dataset=dataset, batch_size=2, shuffle_buffer=1)
    spoilt = stream([[row(0, video=NO_VIDEO), row(1)], [row(2, video=NO_VIDEO), row(3)]])
    rest, _, broken = read(1, dataset=spoilt, batch_size=2, shuffle_buffer=1, positions=positions)
    assert video_ids(rest[0]) == ["clip1", "clip3"]
    assert broken == []


def test_reading_leaves_the_random_state_alone():
    """Reading keeps the random state: a resumed run starts workers at another step but needs the same dropout."""
    before = torch.get_rng_state()
    for num_workers in (0, 2):
        read(2, num_workers=num_workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_that_a_worker_needs_can_be_sent_to_it():
    """The reader can be pickled, which workers need where they are not forked, as on macOS."""
    reader = TrainingBatches(eight_shards(), tiny_processor(), **SETTINGS)
    copy = pickle.loads(pickle.dumps(reader))
    assert [samples(batch) for batch in copy.batches(2)] == [samples(batch) for batch in reader.batches(2)]


# Order of videos and captions


def test_each_video_comes_once_a_pass_and_each_caption_once_in_as_many_passes():
    """A pass has each video once, and as many passes as captions per video use each caption once."""
    dataset = stream([[row(2 * n, 3), row(2 * n + 1, 3)] for n in range(4)])
    captions: list[str] = []
    processor = tiny_processor()
    reader = TrainingBatches(dataset, processor, **SETTINGS)
    for batch in reader.batches(3):
        assert sorted(batch["video_ids"]) == sorted(f"clip{n}" for n in range(8))
        captions += processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert len(set(captions)) == 24


def test_captions_are_taken_in_an_order_by_chance_that_the_seed_decides():
    """The order of captions depends on the seed, the video and the cycle through its captions."""
    captions = [str(number) for number in range(20)]

    def order(seed: int, video_id: str, cycle: int = 0) -> list[str]:
        passes = range(20 * cycle, 20 * cycle + 20)
        return [caption_of_pass(captions, seed=seed, video_id=video_id, pass_index=number) for number in passes]

    orders = [order(0, "a"), order(1, "a"), order(0, "b"), order(0, "a", cycle=1)]
    assert all(sorted(one) == sorted(captions) for one in orders)
    assert len(set(map(tuple, orders))) == 4
    assert order(0, "a") == orders[0]


def test_passes_and_seeds_are_shuffled_differently():
    """Passes and seeds have different orders, so that batches combine different videos."""
    dataset = stream([[row(n) for n in range(12)], [row(n) for n in range(12, 24)]])
    passes = read(12, dataset=dataset, batch_size=4, shuffle_buffer=24)[0]
    other_seed = read(6, dataset=dataset, batch_size=4, shuffle_buffer=24, seed=6)[0]
    orders = [[video_ids(step) for step in steps] for steps in (passes[:6], passes[6:], other_seed)]
    assert all(sorted(id for ids in order for id in ids) == sorted(f"clip{n}" for n in range(24)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_two_captions_of_one_video_share_its_key_and_no_two_videos_do():
    """Captions of one video share its key, which excludes them as negatives of each other across processes."""
    dataset = stream([[row(0, 2)], [row(1, 2)]])
    (batch,) = TrainingBatches(dataset, tiny_processor(), **SETTINGS | {"batch_size": 4}).batches(1)
    assert batch["video_ids"] == ["clip0", "clip0", "clip1", "clip1"]
    a, b, c, d = batch["video_keys"].tolist()
    assert a == b != c == d
    settings = SETTINGS | {"batch_size": 4, "same_video_negatives": True}
    (batch,) = TrainingBatches(dataset, tiny_processor(), **settings).batches(1)
    assert len(set(batch["video_keys"].tolist())) == 4  # `same_video_negatives`, as in the released code
    assert len(set(batch["selection_seeds"].tolist())) == 4
    assert len({ids.numpy().tobytes() for ids in batch["input_ids"]}) == 4


def test_hashes_are_the_same_everywhere():
    """Hashes don't depend on the machine or the Python version, since seeds and orders derive from them."""
    assert stable_hash("video", "clip0") == 1918991851654095670
    assert all(0 <= stable_hash(number) < 2**63 for number in range(1000))


def test_a_data_set_in_memory_is_read_too():
    """A `Dataset`, as from `load_benchmark(..., streaming=False)`, is split into as many parts as a batch needs."""
    dataset = Dataset.from_list([row(number) for number in range(24)], features=FEATURES)
    reader = TrainingBatches(dataset, tiny_processor(), **SETTINGS)
    assert reader.num_lanes == 8
    assert sorted(id for batch in reader.batches(3) for id in batch["video_ids"]) == sorted(
        f"clip{n}" for n in range(24)
    )


# Shards, lanes and processes


@pytest.mark.parametrize(
    ("batch_size", "num_shards", "lanes"),
    [(128, 1000, 64), (128, 64, 64), (128, 50, 32), (12, 9, 6), (7, 6, 1), (5, 1, 1)],
)
def test_lanes_follow_from_the_batch_and_the_shards(batch_size: int, num_shards: int, lanes: int):
    """The number of lanes depends only on the batch and the shards, so that batches don't depend on the hardware."""
    assert count_lanes(batch_size, num_shards) == lanes


@pytest.mark.parametrize(
    ("batch_size", "num_shards", "num_processes", "advice"),
    [
        (8, 8, 3, "make the global batch a multiple of 3"),
        (8, 2, 4, "ts2net prepare --shards 8"),
        (12, 6, 4, "ts2net prepare --shards 12"),
        (128, 128, 128, "at most 64 processes"),
    ],
)
def test_processes_that_cannot_share_evenly_are_told_what_to_change(
    batch_size: int, num_shards: int, num_processes: int, advice: str
):
    """An uneven split over processes is an error with advice, because it would change the batches."""
    dataset = stream([[row(0)] for _ in range(num_shards)])
    with pytest.raises(ValueError, match=f"{num_processes} processes can't share .*{advice}"):
        read(1, dataset=dataset, num_processes=num_processes, batch_size=batch_size)


def test_one_shard_is_enough_for_one_process(caplog):
    """A small data set can have one shard; workers without a shard to read are not started."""
    steps, _, _ = read(2, dataset=stream([[row(n) for n in range(5)]]), num_workers=2, batch_size=5)
    assert [video_ids(step) for step in steps] == [[f"clip{n}" for n in range(5)]] * 2
    assert "1 of 2 workers are used" in caplog.text


# Errors


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_videos_are_replaced_and_reported_in_their_batch(num_workers: int):
    """Broken videos are replaced by others and reported in the batch."""
    dataset = stream([[row(0), row(1, video=None)], [row(2, start=60.0), row(3, captions=[]), row(4)]])
    steps, _, broken = read(2, dataset=dataset, batch_size=2, num_workers=num_workers, shuffle_buffer=1)
    assert [video_ids(step) for step in steps] == [["clip0", "clip4"]] * 2
    assert BrokenVideo("clip1", "the video is missing") in broken
    assert BrokenVideo("clip3", "it has no captions") in broken
    assert any(video.video_id == "clip2" and "start=60" in video.reason for video in broken)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row(2, video=NO_VIDEO), row(3, video=None)], "none of the 2 videos in part 2 of 2 .* can be used; the last"),
        ([], "part 2 of 2 of the data set has no videos"),
    ],
)
def test_a_part_without_a_video_to_use_ends_in_an_error(rows: list, problem: str, num_workers: int):
    """A part without usable videos is an error; the search for a replacement would never end."""
    dataset = stream([[row(0), row(1)], rows])
    with pytest.raises(DataLoadingError, match=problem) as caught:
        read(2, dataset=dataset, batch_size=2, num_workers=num_workers)
    assert "\n" not in str(caught.value)


def write_tar(path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for ending, data in (("mp4", clip(number)), ("json", json.dumps({"n": number}).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_breaks_off_is_an_error_in_one_line(tmp_path: Path, num_workers: int):
    """A truncated shard is a one-line error: not read as a smaller shard, nor hidden in a worker's stack trace."""
    write_tar(tmp_path / "a.tar", range(6))
    dataset = load_dataset("webdataset", data_files=[str(tmp_path / "a.tar")], split="train", streaming=True)
    dataset = dataset.decode(False).map(as_standard_row, features=FEATURES, remove_columns=dataset.column_names)
    assert len(read(1, dataset=dataset, batch_size=6)[0][0]) == 6
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataLoadingError, match=r"part 1 of 1 of the data set can't be read on after \d videos: "
    ) as caught:
        read(1, dataset=dataset, batch_size=6, num_workers=num_workers, shuffle_buffer=1)
    assert "\n" not in str(caught.value)


def as_standard_row(member: dict[str, Any]) -> dict[str, Any]:
    return row(member["json"]["n"], video={"bytes": member["mp4"]["bytes"], "path": None})


def test_positions_of_another_run_are_refused():
    """Positions are refused with other shards or another batch size, where they would mean other samples."""
    _, positions, _ = read(1)
    with pytest.raises(ValueError, match="positions are given of 8 parts, expected 4"):
        read(1, batch_size=4, positions=positions)
    changed = stream([[row(number)] for number in range(8)])
    with pytest.raises(DataLoadingError, match="part 1 of 8 of the data set has 1 videos where it had 2"):
        read(1, dataset=changed, positions=read(2)[1])


def test_impossible_settings_are_refused():
    """Invalid settings are refused with their name and value."""
    for name in ("batch_size", "shuffle_buffer", "num_frames"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            read(1, **{name: 0})
    with pytest.raises(ValueError, match="process_index must lie from 0 to 1, got 2"):
        TrainingBatches(eight_shards(), tiny_processor(), process_index=2, num_processes=2, **SETTINGS)
    with pytest.raises(ValueError, match="data set is empty"):
        read(1, dataset=Dataset.from_list([row(0)], features=FEATURES).select([]))


STREAM_FROM_THE_HUB = """
from support.training_batches import read, video_ids
from ts2net.data import load_benchmark

dataset = load_benchmark("folder", "tester/clips", "train")
assert dataset.num_shards == 4
whole = read(5, dataset=dataset, num_processes=2)[0]
first, positions, _ = read(3, dataset=dataset, num_workers=2)
assert first + read(2, dataset=dataset, num_workers=2, positions=positions)[0] == whole
assert {id for step in whole[:2] for id in video_ids(step)} == {f"clip{number}.mp4" for number in range(16)}
"""


@pytest.mark.slow
def test_prepared_shards_are_streamed_from_the_hub_in_workers(tmp_path: Path):
    """Prepared shards are pushed and streamed in workers, although the Hub client has threads before the fork."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(16):
        (videos / f"clip{number}.mp4").write_bytes(clip(number))
        (videos / f"clip{number}.txt").write_text(f"clip {number}")
    prepare("folder", tmp_path / "out", videos=videos, splits=["train"], num_shards=4, workers=1)
    with LoopbackHub() as hub:
        environment = (
            os.environ | hub.env(tmp_path / "home", hub.token) | {"PYTHONPATH": str(Path(__file__).parents[1])}
        )
        with pytest.MonkeyPatch.context() as patch:
            hub.use_here(patch)
            push_prepared(tmp_path / "out", "tester/clips", token=hub.token)
        subprocess.run([sys.executable, "-c", STREAM_FROM_THE_HUB], env=environment, check=True, timeout=120)
