"""A run that is killed repeatedly ends with weights that are bit-identical to an uninterrupted run's."""

import json
import signal
from pathlib import Path

import pytest
import torch
from transformers.trainer_utils import get_last_checkpoint

from support.training_run import losses, run_in_processes, weights
from ts2net.training.checkpoints import (
    DataState,
    checkpoints_in,
    clean_up,
    find_checkpoint,
    publish,
    rotate,
    saving_folder,
    start_saving,
)

pytestmark = pytest.mark.kill

NUM_STEPS = 12


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_in_processes(folder, "nowhere:0")[0]["exit_code"] == 0
    assert sorted(losses(folder)) == [*range(1, NUM_STEPS + 1)]
    return folder


def test_a_run_that_is_killed_everywhere_ends_with_the_same_weights(uninterrupted: Path, tmp_path: Path):
    """Losses, evaluations and weights don't change. Each resumed process has only the files of the killed one."""
    wheres = {
        "step:1": None,  # before there is any checkpoint
        "step:4": "checkpoint-2",  # in the middle of an epoch
        "save:4": "checkpoint-2",  # at the end of an epoch, with the checkpoint half-written
        "evaluation:6": "checkpoint-4",
        "rename:6": "checkpoint-4",  # with the checkpoint written, but not renamed
        "rotate:8": "checkpoint-8",  # before the older one is deleted
    }
    answers = run_in_processes(tmp_path, *wheres, "nowhere:0")
    assert answers == [
        *({"exit_code": -signal.SIGKILL, "checkpoint": checkpoint} for checkpoint in wheres.values()),
        {"exit_code": 0, "checkpoint": "checkpoint-12"},
    ]

    assert losses(tmp_path) == losses(uninterrupted)
    whole, resumed = weights(uninterrupted), weights(tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert losses(tmp_path)[NUM_STEPS]["broken_videos"] == 1

    histories = [json.loads((folder / "history.json").read_text()) for folder in (uninterrupted, tmp_path)]
    recalls = [[entry for entry in history if "eval_text_to_video_R@1" in entry] for history in histories]
    for entry in [*recalls[0], *recalls[1]]:
        entry.pop("eval_runtime"), entry.pop("eval_samples_per_second")
    assert recalls[0] == recalls[1]
    assert len(recalls[0]) == NUM_STEPS / 2


def test_only_whole_checkpoints_are_left(uninterrupted: Path):
    """A finished run has its last checkpoint, and no hidden partial folders or pickles."""
    run = uninterrupted / "run"
    assert checkpoints_in(run)[-1].name == f"checkpoint-{NUM_STEPS}"
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    files = {path.suffix for checkpoint in checkpoints_in(run) for path in checkpoint.iterdir()}
    assert not files & {".bin", ".pkl", ".pickle"}


def test_checkpoint_files_load_without_pickle(uninterrupted: Path):
    """A checkpoint from a stranger must not be able to run code."""
    last = checkpoints_in(uninterrupted / "run")[-1]
    torch.load(last / "optimizer.pt", weights_only=True)
    torch.load(last / "scheduler.pt", weights_only=True)


def write(folder: Path, content: str = "whole") -> Path:
    folder.mkdir(parents=True)
    for name in ("trainer_state.json", "data_state.json", "model.safetensors", "optimizer.pt"):
        (folder / name).write_text(content)
    return folder


def test_a_checkpoint_that_is_replaced_is_not_lost_between_the_two(tmp_path: Path):
    """After a kill between moving the old checkpoint away and publishing the new one, the old one is restored."""
    write(tmp_path / ".replaced-checkpoint-4", "old")
    write(tmp_path / ".saving" / "checkpoint-4", "new, not flushed")
    clean_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert (tmp_path / "checkpoint-4" / "data_state.json").read_text() == "old"


def test_a_checkpoint_can_be_saved_twice(tmp_path: Path):
    """Saving a step that is already saved replaces its checkpoint, as when an epoch ends at a save step."""
    write(tmp_path / "checkpoint-4", "old")
    publish(write(start_saving(tmp_path) / "checkpoint-4", "new"), tmp_path / "checkpoint-4")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert (tmp_path / "checkpoint-4" / "data_state.json").read_text() == "new"


def test_what_is_half_deleted_or_half_written_is_no_checkpoint(tmp_path: Path):
    """A checkpoint gets its name only after it is written and loses it before it is deleted."""
    write(tmp_path / ".removed-checkpoint-9")
    write(saving_folder(tmp_path) / "checkpoint-8")
    write(tmp_path / "checkpoint-2")
    assert get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert find_checkpoint(True, tmp_path) == tmp_path / "checkpoint-2"
    clean_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_rotation_keeps_the_newest_and_those_to_keep(tmp_path: Path):
    """Rotation keeps the best checkpoint, even if it is older than deleted ones."""
    for step in (2, 4, 10, 12):
        write(tmp_path / f"checkpoint-{step}")
    rotate(tmp_path, 2, keep={tmp_path / "checkpoint-2", tmp_path / "checkpoint-12"})
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-2", "checkpoint-12"]


@pytest.mark.parametrize("missing", ["model.safetensors", "optimizer.pt"])
def test_a_part_of_a_checkpoint_is_told_from_a_whole_one(missing: str, tmp_path: Path):
    """A partially copied or deleted checkpoint is an error: Trainer would silently use the initial weights."""
    (write(tmp_path / "checkpoint-4") / missing).unlink()
    with pytest.raises(ValueError, match=f"checkpoint-4: training can't go on from it, because {missing}"):
        find_checkpoint("auto", tmp_path)


@pytest.mark.parametrize(
    ("resume", "message"),
    [
        ("true", "no checkpoint to resume from"),
        ("nowhere", "nowhere: no such checkpoint"),
        ("other", "other: training can't go on from it, because trainer_state.json is missing"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named(resume: str, message: str, tmp_path: Path, monkeypatch):
    """A mistyped checkpoint path is an error and doesn't start a new run."""
    monkeypatch.chdir(tmp_path)
    Path("other").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        find_checkpoint(resume, tmp_path / "run")
    assert find_checkpoint("auto", tmp_path / "run") is None


def test_a_checkpoint_remembers_where_the_data_was_and_what_the_run_depends_on(tmp_path: Path):
    state = DataState(positions={"0": [0, 4]}, settings={"seed": 1, "global_batch_size": 8}, videos_read=4)
    state.save(tmp_path)
    assert DataState.load(tmp_path) == state
