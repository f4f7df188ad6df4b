"""Pushes to the Hub: of checkpoints while training goes on, and of the saved model at its end."""

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
"""The run's arguments, beside a saved model. They tell of this machine, so they are not pushed."""

# What the folder of a run holds beside the model.
LOCAL_FILES = ("checkpoint-*", ".*", "runs/*", ARGUMENTS)


class PushError(RuntimeError):
    """The Hub can't be reached or refuses a model."""


class CheckpointPushes:
    """Pushes checkpoints in the background, one after the other. A push that fails is reported and stops nothing.

    Args:
        repo_id: The repository.
        token: Token with the right to write. `None` takes the one of `hf auth login` or `HF_TOKEN`.
        revision: Branch. `None` is `main`.
    """

    def __init__(self, repo_id: str, token: str | None = None, revision: str | None = None) -> None:
        self.repo_id = repo_id
        self.revision = revision
        self._api = HfApi(token=token)
        self._checkpoint: Path | None = None
        self._uploads: list[Future] = []

    def start(self, checkpoint: Path, message: str, state_folder: str | None = None) -> None:
        """Start to push a checkpoint, once the push before has ended.

        Args:
            checkpoint: The folder. It must stay until [`CheckpointPushes.finish`].
            message: Title of the commit.
            state_folder: Folder of the repository that gets the whole checkpoint. `None` pushes the model alone.
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
        """Wait for the push that was started, and report it if it failed."""
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
    """Push a model that has been saved in a folder, in one commit.

    Raises:
        PushError: If the Hub can't be reached or refuses.
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
    except Exception as error:  # each HTTP client has its own
        excluded = " ".join(f"--exclude '{pattern}'" for pattern in LOCAL_FILES)
        branch = f" --revision {quote(revision)}" if revision else ""
        reason = one_line(error).removesuffix(".")
        raise PushError(
            f"pushing to {repo_id} failed: {reason}. The model is saved in {folder}; push it later with: "
            f"hf upload {repo_id} {quote(str(folder))} .{branch} {excluded}"
        ) from error
