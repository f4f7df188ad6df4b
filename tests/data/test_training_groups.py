"""Groups in training batches: the clips of a group, which are hard negatives, share a batch on any hardware."""

import random
from typing import Any

import pytest

from support.streamed_data import row, stream
from support.tiny_models import tiny_processor
from support.training_batches import SETTINGS
from ts2net.data.lanes import shuffle_groups
from ts2net.data.rows import VideoRow
from ts2net.data.shards import assign_to_shards
from ts2net.data.training_batches import TrainingBatches


def pairs() -> Any:
    """Sixteen groups of two clips in eight shards of two groups."""
    rows = [row(number, group=f"group{number // 2}") for number in range(32)]
    return stream([rows[first : first + 4] for first in range(0, 32, 4)])


def batches_of(dataset: Any, **settings: Any) -> TrainingBatches:
    return TrainingBatches(dataset, tiny_processor(), **SETTINGS | {"batch_size": 8, "shuffle_buffer": 32} | settings)


def groups_in(batches: TrainingBatches, count: int) -> list[list[int]]:
    return [[int(name.removeprefix("clip")) // 2 for name in batch["video_ids"]] for batch in batches.batches(count)]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_groups_stay_together_and_are_shuffled(num_workers: int) -> None:
    batches = groups_in(batches_of(pairs(), group_size=2, num_workers=num_workers), 8)
    for batch in batches:
        assert [batch.count(group) for group in set(batch)] == [2, 2, 2, 2]
    passes = [sorted(group for batch in part for group in batch) for part in (batches[:4], batches[4:])]
    assert passes == [sorted([*range(16)] * 2)] * 2, "each clip once a pass"
    assert batches[:4] != batches[4:], "other groups meet in another pass"


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_groups_on_two_processes() -> None:
    whole = groups_in(batches_of(pairs(), group_size=2), 6)
    first = batches_of(pairs(), group_size=2)
    begun = groups_in(first, 2)
    parts = [
        groups_in(batches_of(pairs(), group_size=2, process_index=rank, num_processes=2, positions=first.positions), 4)
        for rank in (0, 1)
    ]
    assert begun == whole[:2]
    assert [sorted(one + other) for one, other in zip(*parts, strict=True)] == [sorted(batch) for batch in whole[2:]]


def test_rows_without_a_group_and_longer_groups_are_taken_too() -> None:
    names = ["a", "a", "a", None, None, "b", "b"]
    rows = [VideoRow(f"clip{number}", ("a",), group=group) for number, group in enumerate(names)]
    order = [each.video_id for each in shuffle_groups(rows, 2, 3, random.Random(0))]
    assert sorted(order) == [each.video_id for each in rows]
    for one, other in (("clip0", "clip1"), ("clip5", "clip6")):
        assert order.index(other) == order.index(one) + 1


def test_a_batch_is_made_of_whole_groups() -> None:
    with pytest.raises(ValueError, match="a batch of 8 can't be made of groups of group_size=3"):
        batches_of(pairs(), group_size=3)
    with pytest.raises(ValueError, match="group_size=2 needs a column 'group' in the training data"):
        batches_of(pairs().remove_columns("group"), group_size=2)


def test_a_group_lies_in_one_shard() -> None:
    """The clips of a group are consecutive in one shard, in their order."""
    names = [f"group{number // 4}" for number in range(102)]
    shards = assign_to_shards(names, 16, seed=0)
    assert sorted(index for shard in shards for index in shard) == [*range(102)]
    for shard in shards:
        assert all(
            shard[position + 1] == index + 1
            for position, index in enumerate(shard[:-1])
            if index % 4 != 3 and index != 101
        )
    assert max(map(len, shards)) - min(map(len, shards)) <= 4
