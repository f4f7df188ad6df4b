"""Training of the demo: same as `python -m ts2net.training --recipe moving_things`, with another progress bar."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import ProgressCallback

from ..small_clip import small_clip_folder
from ..training.command_line import parse
from ..training.preparation import prepare_run
from ..training.trainer import TS2NetTrainer


def make_trainer(data: Path, output_dir: Path, changes: Mapping[str, Any]) -> TS2NetTrainer:
    """Set up the training on the prepared clips.

    Args:
        data: Folder of the prepared splits.
        output_dir: Folder for the checkpoints.
        changes: Options of the training that differ from the recipe's.
    """
    options: dict[str, Any] = {"recipe": "moving_things", "model": small_clip_folder(), "train_data": data}
    options |= {"output_dir": output_dir, "resume_from_checkpoint": "auto"}
    options |= {"report_to": "none", "use_cpu": True, "disable_tqdm": False, **changes}
    trainer = prepare_run(parse([f"--{name}={value}" for name, value in options.items()]))
    trainer.remove_callback(ProgressCallback)  # [`TrainingBar`] replaces it
    return trainer
