"""Pushes to the Hub: checkpoints during training, and the saved model at its end."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard
from transformers.utils import logging

from ..errors import one_line
from ..hub import push_to_hub
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .checkpoints import STATE_FILES

logger = logging.get_logger(__name__)

ARGUMENTS = "training_arguments.json"
"""File of the run's arguments in the folder of a saved model. It describes this machine, so it is not pushed."""

# Files in the folder of a run that don't belong to the model.
LOCAL_FILES = ("checkpoint-*", ".*", "runs/*", ARGUMENTS)


class PushError(RuntimeError):
    """Raised if the Hub can't be reached or refuses a model."""


class CheckpointPushes:
    """Pushes checkpoints in the background, one at a time. A failed push is logged and does not stop the training.

    Args:
        repo_id: The repository.
        token: Token with write access. `None` uses the token of `hf auth login` or `HF_TOKEN`.
        revision: Branch. `None` is `main`.
    """

    def __init__(self, repo_id: str, token: str | None = None, revision: str | None = None) -> None:
        self.repo_id = repo_id
        self.revision = revision
        self._api = HfApi(token=token)
        self._checkpoint: Path | None = None
        self._uploads: list[Future] = []

    def start(self, checkpoint: Path, message: str, state_folder: str | None = None) -> None:
        """Start to push a checkpoint, after the previous push has ended.

        Args:
            checkpoint: The folder. It must exist until [`CheckpointPushes.finish`] returns.
            message: Title of the commit.
            state_folder: Folder of the repository for the whole checkpoint. `None` pushes only the model.
        """
        self.finish()
        upload: Callable[..., Any] = partial(
            self._api.upload_folder,
            repo_id=self.repo_id,
            revision=self.revision,
            folder_path=checkpoint,
            run_as_future=True,
        )
        self._checkpoint = checkpoint
        self._uploads = [upload(ignore_patterns=[*STATE_FILES, ARGUMENTS], commit_message=message)]
        if state_folder is not None:
            title = f"{message}, checkpoint"
            self._uploads.append(upload(path_in_repo=state_folder, delete_patterns="*", commit_message=title))

    def finish(self) -> None:
        """Wait for the current push, and log its errors."""
        errors = [upload.exception() for upload in self._uploads]
        self._uploads = []
        for error in errors:
            if error is not None:
                logger.warning(
                    f"pushing {self._checkpoint} to {self.repo_id} failed, and the training goes on: {one_line(error)}"
                )


def push_saved_model(
    folder: Path,
    processor: TS2NetProcessor,
    repo_id: str,
    card: ModelCard,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
    token: str | None,
) -> CommitInfo:
    """Push a model saved in a folder, in one commit.

    Raises:
        PushError: If the Hub can't be reached or refuses the push.
    """
    model = TS2NetModel.from_pretrained(folder)
    try:
        return push_to_hub(
            model,
            processor,
            repo_id,
            card=card,
            private=private,
            revision=revision,
            commit_message=message,
            token=token,
        )
    except Exception as error:  # each HTTP client has its own error types
        excluded = " ".join(f"--exclude '{pattern}'" for pattern in LOCAL_FILES)
        branch = f" --revision {quote(revision)}" if revision else ""
        reason = one_line(error).removesuffix(".")
        raise PushError(
            f"pushing to {repo_id} failed: {reason}. The model is saved in {folder}; push it later with: "
            f"hf upload {repo_id} {quote(str(folder))} .{branch} {excluded}"
        ) from error
