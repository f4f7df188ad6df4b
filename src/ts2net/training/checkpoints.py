"""Atomic writing and deletion of checkpoints, safe against a kill at any time, and the state that a run resumes from.

A checkpoint is written in `.saving`, flushed to the disk and only then renamed to `checkpoint-STEP`. A checkpoint is
renamed before it is deleted. So every folder with the name of a checkpoint is complete, also for Trainer's
`get_last_checkpoint`, and a checkpoint is replaced only after its replacement is complete.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..errors import one_line
from ..files import write_errors_named
from .sharding import OPTIMIZER_FILES

DATA_STATE = "data_state.json"

_SAVING = ".saving"
_REPLACED, _REMOVED = ".replaced-", ".removed-"
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
# Files of the training state. The other files of a checkpoint are those of a saved model.
STATE_FILES = ("trainer_state.json", DATA_STATE, *OPTIMIZER_FILES, "scheduler.pt", "scaler.pt", "rng_state*.pth")
# Files that resuming needs. One file of each tuple is enough.
_NEEDED = (("trainer_state.json",), (DATA_STATE,), ("model.safetensors", "adapter_model.safetensors"), OPTIMIZER_FILES)

T = TypeVar("T")


class SavingError(RuntimeError):
    """Raised if a checkpoint or a model can't be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"cannot save {folder}: {reason}")
        self.reason = reason


@dataclass
class DataState:
    """Reading position of a run in its data, over all processes, and the settings that its result depends on.

    Args:
        positions: Positions from which `TrainingBatches` resumes.
        settings: See [`run_settings`].
        videos_read: Number of videos read, including broken videos. A video counts each time it is read.
        videos_broken: Number of broken videos among `videos_read`.
        broken: Reasons of the broken videos, by video id.
        changes: Settings changed on resuming: `{"step", "name", "old", "new"}`, in order.
    """

    positions: dict[str, list[int]]
    settings: dict[str, Any]
    videos_read: int = 0
    videos_broken: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def save(self, checkpoint: Path) -> None:
        """Write the state into a checkpoint."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (checkpoint / DATA_STATE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, checkpoint: Path) -> "DataState":
        """Read the state from a checkpoint.

        Raises:
            ValueError: If the file is not a data state.
        """
        path = checkpoint / DATA_STATE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: expected the data state of a ts2net run: {error}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Finding checkpoints


def step_of(checkpoint: Path) -> int | None:
    """Return the step in the name of a checkpoint folder; `None` if it is not the name of a checkpoint."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def checkpoints_in(output_dir: Path) -> list[Path]:
    """Return all checkpoints of a run, oldest first."""
    checkpoints = [path for path in output_dir.glob("*") if step_of(path) is not None and path.is_dir()]
    return sorted(checkpoints, key=lambda path: step_of(path) or 0)


def find_checkpoint(resume: str | Path | bool | None, output_dir: Path) -> Path | None:
    """Find the checkpoint to resume from.

    Args:
        resume: A checkpoint folder; `True` or `"true"`: the last checkpoint of the run; `"auto"`: the last checkpoint
            if there is one; `None`, `False` or `"false"`: no checkpoint.
        output_dir: The folder of the run.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If the checkpoint is incomplete.
    """
    word = str(resume).lower()
    if word in ("none", "false"):
        return None
    if word in ("true", "auto"):
        last = checkpoints_in(output_dir)[-1:]
        if not last and word == "true":
            raise FileNotFoundError(f"{output_dir}: no checkpoint to resume from; without one, give 'auto'")
        checkpoint = last[0] if last else None
    else:
        checkpoint = Path(str(resume))
        if not checkpoint.is_dir():
            raise FileNotFoundError(f"{checkpoint}: no such checkpoint to resume from")
    if checkpoint is not None:
        for names in _NEEDED:
            if not any((checkpoint / name).exists() for name in names):
                raise ValueError(
                    f"{checkpoint}: training can't go on from it, because {' or '.join(names)} is missing; was it "
                    f"saved with save_only_model, copied or deleted in part, or saved by something else?"
                )
    return checkpoint


def agree_on_checkpoint(resume: str | Path | bool | None, output_dir: Path, *, is_main: bool) -> Path | None:
    """Run [`find_checkpoint`] on the main process and return its result on all processes. All processes must call it.

    Without agreement, `"auto"` could resume on one process and start a new run on another that has another disk.

    Raises:
        FileNotFoundError: See [`find_checkpoint`]; also if another process doesn't find the checkpoint.
        ValueError: See [`find_checkpoint`].
    """
    checkpoint = from_main_process(lambda: find_checkpoint(resume, output_dir), is_main=is_main)
    if checkpoint is not None and not all(gather_object([checkpoint.is_dir()])):
        raise FileNotFoundError(
            f"{checkpoint}: only some of the processes find it; expected a folder on a disk that all share"
        )
    return checkpoint


def from_main_process(work: Callable[[], T], *, is_main: bool) -> T:
    """Call `work` on the main process, and return its result or raise its error on all. All processes must call it.

    Raises:
        ValueError: If `work` raises it.
        OSError: If `work` raises it.
    """
    outcome: list[Any] = [None, None]
    if is_main:
        try:
            outcome[0] = work()
        except (ValueError, OSError) as error:
            outcome[1] = error
    result, failure = broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Writing checkpoints


@contextmanager
def new_checkpoint(checkpoint: Path, *, is_writer: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """Write a complete checkpoint or none. All processes must enter the context.

    Args:
        checkpoint: The folder of the checkpoint; may exist.
        is_writer: Whether this process creates and renames folders.
        wait: Waits for all processes.

    Yields:
        The folder to write into. It is renamed to `checkpoint` at the end of the block.

    Raises:
        SavingError: If the checkpoint can't be written. Its partial files are deleted.
    """
    written = saving_folder(checkpoint.parent) / checkpoint.name
    try:
        with saving_errors(checkpoint):
            if is_writer:
                start_saving(checkpoint.parent)
            wait()
            yield written
            wait()
            if is_writer:
                publish(written, checkpoint)
    except SavingError:
        if is_writer:
            shutil.rmtree(saving_folder(checkpoint.parent), ignore_errors=True)
        raise
    wait()


@contextmanager
def saving_errors(folder: Path) -> Iterator[None]:
    """Convert all errors of writing to a folder to one type, even if a library gives no reason.

    Raises:
        SavingError: With the folder and the reason, such as a full disk.
    """
    try:
        with write_errors_named(folder):
            yield
    except SavingError as error:  # the error of a folder inside this folder
        raise SavingError(folder, error.reason) from error
    except (OSError, SafetensorError) as error:
        reason = one_line(error)
        if isinstance(error, OSError) and error.filename == str(folder):
            reason = str(error.strerror)
        raise SavingError(folder, reason) from error
    except RuntimeError as error:
        if "inline_container" not in str(error):  # errors of torch.save, which don't include the reason
            raise
        free = shutil.disk_usage(folder.parent).free
        raise SavingError(folder, f"writing failed; its disk has {free / 1e6:.0f} MB left") from error


def start_saving(output_dir: Path) -> Path:
    """Create an empty folder for a checkpoint that is being written. Files of a killed run are deleted."""
    saving = saving_folder(output_dir)
    shutil.rmtree(saving, ignore_errors=True)
    saving.mkdir(parents=True)
    return saving


def saving_folder(output_dir: Path) -> Path:
    """Return the folder in which checkpoints of a run are written before they are renamed."""
    return output_dir / _SAVING


def publish(written: Path, checkpoint: Path) -> None:
    """Flush a written checkpoint to the disk, then rename it."""
    for folder, _, files in os.walk(written):
        for name in files:
            _flush(Path(folder) / name)
        _flush(Path(folder))
    replaced = checkpoint.with_name(_REPLACED + checkpoint.name)
    if checkpoint.exists():
        checkpoint.rename(replaced)
    written.rename(checkpoint)
    _flush(checkpoint.parent)
    if replaced.exists():
        shutil.rmtree(replaced)
    shutil.rmtree(saving_folder(checkpoint.parent), ignore_errors=True)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint. It is renamed first, so that no incomplete folder has the name of a checkpoint."""
    removed = checkpoint.with_name(_REMOVED + checkpoint.name)
    shutil.rmtree(removed, ignore_errors=True)
    checkpoint.rename(removed)
    shutil.rmtree(removed)


def rotate(output_dir: Path, limit: int | None, keep: set[Path]) -> None:
    """Delete the oldest checkpoints that are not in `keep` until at most `limit` remain. `None` deletes nothing."""
    if limit is None or limit < 1:
        return
    checkpoints = checkpoints_in(output_dir)
    kept = {path.absolute() for path in keep}
    spare = [path for path in checkpoints if path.absolute() not in kept]
    for checkpoint in spare[: max(0, len(checkpoints) - limit)]:
        remove(checkpoint)


def clean_up(output_dir: Path) -> None:
    """Delete or restore the unfinished folders of a killed run."""
    shutil.rmtree(saving_folder(output_dir), ignore_errors=True)
    for replaced in output_dir.glob(_REPLACED + "*"):
        checkpoint = replaced.with_name(replaced.name.removeprefix(_REPLACED))
        if checkpoint.exists():
            shutil.rmtree(replaced)
        else:  # killed between the two renames: restore the old checkpoint
            replaced.rename(checkpoint)
    for removed in output_dir.glob(_REMOVED + "*"):
        shutil.rmtree(removed)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders, and their flush matters less there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
