"""Checkpoints that are whole or not there, whenever the process is killed.

Notable here: a checkpoint is written in `.saving`, flushed to the disk and only then renamed to `checkpoint-STEP`, and
an older one is renamed before it is deleted. So every folder that bears the name of a checkpoint is one, for Trainer's
own `get_last_checkpoint` too, and the last good one goes only when there is a better one.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

DATA_STATE = "data_state.json"

_SAVING = ".saving"
_REPLACED, _REMOVED = ".replaced-", ".removed-"
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
# What only a checkpoint has; the rest of its folder is a model like any other.
STATE_FILES = (
    "trainer_state.json",
    DATA_STATE,
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "optimizer.bin",  # FSDP's
)

# What a run resumes from. The optimizer's state has one name for whole models and another with FSDP.
_NEEDED = (
    ("trainer_state.json",),
    (DATA_STATE,),
    ("model.safetensors",),
    ("optimizer.pt", "optimizer.bin"),
)


@dataclass
class DataState:
    """How far a run has read its data, of all processes together.

    Args:
        positions: What `TrainingBatches` goes on from.
        settings: What the order of the data depends on.
        videos_read: Videos that were taken, the broken ones included; each counts as often as it came.
        videos_broken: Those of them that could not be used.
        broken: Why, by the video's id.
    """

    positions: dict[str, list[int]]
    settings: dict[str, int]
    videos_read: int = 0
    videos_broken: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    def save(self, checkpoint: Path) -> None:
        """Write it into a checkpoint."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (checkpoint / DATA_STATE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, checkpoint: Path) -> "DataState":
        """Read it from a checkpoint.

        Raises:
            ValueError: If the file is not one of these.
        """
        path = checkpoint / DATA_STATE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: expected the data state of a ts2net run: {error}") from None

    def check_settings(self, settings: Mapping[str, int], checkpoint: Path) -> None:
        """Refuse to go on with settings that put the data in another order.

        Raises:
            ValueError: If one differs.
        """
        for name, value in settings.items():
            if self.settings.get(name) != value:
                raise ValueError(
                    f"{checkpoint} was written with {name}={self.settings.get(name)} and this run has {name}={value}, "
                    f"so it would read other data than the run that it goes on with"
                )


def step_of(checkpoint: Path) -> int | None:
    """The step of a checkpoint's folder, or `None` if it is none by its name."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def checkpoints_in(output_dir: Path) -> list[Path]:
    """All checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("*") if step_of(path) is not None and path.is_dir()]
    return sorted(found, key=lambda path: step_of(path) or 0)


def find_checkpoint(resume: str | Path | bool | None, output_dir: Path) -> Path | None:
    """The checkpoint to go on from.

    Args:
        resume: A checkpoint's folder; `True` or `"true"`, the last of the run; `"auto"`, the last if there is one;
            `None`, `False` or `"false"`, none.
        output_dir: The folder of the run.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the folder is no checkpoint to go on from.
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


def start_saving(output_dir: Path) -> Path:
    """An empty folder in which a checkpoint is written; whatever an earlier, killed run left there is gone."""
    saving = saving_folder(output_dir)
    shutil.rmtree(saving, ignore_errors=True)
    saving.mkdir(parents=True)
    return saving


def saving_folder(output_dir: Path) -> Path:
    """Where the checkpoints of a run are written before they get their names."""
    return output_dir / _SAVING


def publish(written: Path, checkpoint: Path) -> None:
    """Give a checkpoint that is written its name, once all of it is on the disk."""
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
    """Delete a checkpoint, of which at no time a part is left under its name."""
    removed = checkpoint.with_name(_REMOVED + checkpoint.name)
    shutil.rmtree(removed, ignore_errors=True)
    checkpoint.rename(removed)
    shutil.rmtree(removed)


def rotate(output_dir: Path, limit: int | None, keep: set[Path]) -> None:
    """Delete the oldest checkpoints until `limit` are left, or only those to keep. `None` deletes nothing."""
    if limit is None or limit < 1:
        return
    there = checkpoints_in(output_dir)
    kept = {path.absolute() for path in keep}
    spare = [path for path in there if path.absolute() not in kept]
    for checkpoint in spare[: max(0, len(there) - limit)]:
        remove(checkpoint)


def clean_up(output_dir: Path) -> None:
    """Clear away what a killed run left half-done."""
    shutil.rmtree(saving_folder(output_dir), ignore_errors=True)
    for replaced in output_dir.glob(_REPLACED + "*"):
        checkpoint = replaced.with_name(replaced.name.removeprefix(_REPLACED))
        if checkpoint.exists():
            shutil.rmtree(replaced)
        else:  # killed between the two renames: the old one is the last good one
            replaced.rename(checkpoint)
    for removed in output_dir.glob(_REMOVED + "*"):
        shutil.rmtree(removed)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders, and needs it less
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
