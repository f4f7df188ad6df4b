"""Agreement of two processes: they stop at the same step with the same error, and resume from the same checkpoint."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from support.processes import run_in_processes
from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.data.lanes import DataLoadingError
from ts2net.training import TooManyBrokenVideosError, TS2NetTrainer

pytestmark = pytest.mark.spread


def trainer(folder: Path, broken: set[int], **settings: Any) -> TS2NetTrainer:
    """Trainer of a launched process, with the clips `broken` damaged. Rank 1 reads clips 4 to 7 and 12 to 15."""
    rank, num_processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    shards = training_rows()
    for number in broken:
        shards[number // 4][number % 4]["video"] = {"bytes": b"not a video", "path": None}
    args = tiny_arguments(folder, **settings)
    return TS2NetTrainer(tiny_model(), args, train_dataset=stream(shards), processing_class=tiny_processor())


def stop_by_broken_videos(folder: Path) -> tuple[str, str, tuple[int, int]]:
    """Messages for too many broken videos and for an unreadable part, and the counts of a run within the limit."""
    with pytest.raises(TooManyBrokenVideosError) as too_many:
        trainer(folder, broken={4, 5, 12, 13}, max_steps=99, max_broken_share=0.3).train()
    allowed = trainer(folder, broken={4, 5, 12, 13}, max_steps=24, max_broken_share=0.4)
    allowed.train()
    with pytest.raises(DataLoadingError) as unreadable:
        trainer(folder, broken={4, 5, 6, 7}, max_broken_share=1).train()
    counts = allowed._broken.videos_broken, allowed._broken.videos_read
    return str(too_many.value), str(unreadable.value), counts


def test_processes_stop_together_for_what_one_of_them_finds(tmp_path: Path):
    """The share of broken videos is computed over all processes, so it doesn't depend on their number."""
    (first, *_), (second, *_) = results = run_in_processes(stop_by_broken_videos, 2, tmp_path, tmp_path)
    assert first == second
    assert "training videos could not be used, more than max_broken_share=0.3 allows" in first
    assert "'clip4' (not a video" in first or "'clip5' (not a video" in first
    assert results[0][1] == results[1][1]
    broken, read = results[1][2]
    assert results[0][2][0] == 0, "the second reads all that are broken"
    assert broken >= 20
    assert broken / read > 0.4, "alone it would have stopped"


def resume_from_own_disk(folder: Path) -> list[str]:
    """Outcomes when only the first, then only the second process has a checkpoint on its disk."""
    outcomes = []
    for owner in (0, 1):
        disk = folder / f"disk{dist.get_rank()}" / str(owner)
        disk.mkdir(parents=True)
        os.chdir(disk)  # the same relative path on another disk, as on two nodes
        if dist.get_rank() == owner:
            checkpoint = Path("run/checkpoint-1")
            checkpoint.mkdir(parents=True)
            for name in ("trainer_state.json", "data_state.json", "model.safetensors", "optimizer.pt"):
                (checkpoint / name).touch()
        try:
            trainer(Path("run"), broken=set()).check("auto")
            outcomes.append("a new run")
        except FileNotFoundError as error:
            outcomes.append(str(error))
    return outcomes


def test_processes_go_on_from_the_same_checkpoint(tmp_path: Path):
    """Without a shared disk, one process must not resume while the other starts a new run."""
    first, second = run_in_processes(resume_from_own_disk, 2, tmp_path, tmp_path)
    assert first == second
    assert first[0].startswith("run/checkpoint-1: only some of the processes find it; expected a folder on a disk")
    assert first[1] == "a new run"
