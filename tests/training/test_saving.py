"""Files that the trainer writes and pushes, and the errors when it fails."""

import errno
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from safetensors import SafetensorError
from transformers import AutoModel

from support.loopback_hub import LoopbackHub
from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.hub import HUB_FILES
from ts2net.training.checkpoints import SavingError, saving_errors
from ts2net.training.pushing import PushError
from ts2net.training.trainer import TS2NetTrainer


def trainer_for(folder: Path, **settings: Any) -> TS2NetTrainer:
    defaults: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    return TS2NetTrainer(
        tiny_model(),
        tiny_arguments(folder, **(defaults | settings)),
        train_dataset=stream(training_rows()),
        processing_class=tiny_processor(),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Full disk


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Make writes of files above `num_bytes` fail in this process, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_named_with_the_path(tmp_path: Path):
    """Python's `OSError` and safetensors' error, which has the error number in its text, are both recognized."""
    full = OSError(errno.ENOSPC, "No space left on device")
    in_rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    for error in (full, in_rust):
        with pytest.raises(SavingError, match="model: No space left on device$"), saving_errors(tmp_path / "model"):
            raise error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "reason"), [(0.5, "File too large"), (1.5, r"writing failed; its disk has \d+ MB left")]
)
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(share: float, reason: str, tmp_path: Path):
    """A failure to write the weights, or the optimizer state (torch gives no reason), keeps the last checkpoint."""
    trainer_for(tmp_path, max_steps=1, save_steps=1, warmup_steps=0).train()
    first = tmp_path / "checkpoint-1"
    size = (first / "model.safetensors").stat().st_size
    trainer = trainer_for(tmp_path, max_steps=2, warmup_steps=0, changed_settings=["max_steps"])
    with (
        files_of_at_most(int(share * size)),
        pytest.raises(SavingError, match=rf"^cannot save {tmp_path}/checkpoint-2: {reason}$"),
    ):
        trainer.train("auto")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["checkpoint-1"]
    trainer_for(tmp_path, max_steps=2, warmup_steps=0, changed_settings=["max_steps"]).train("auto")
    assert (tmp_path / "checkpoint-2").is_dir()


# ---------------------------------------------------------------------------------------------------------------------
# The Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
        yield hub


@pytest.mark.slow
def test_push_to_hub_brings_a_folder_that_stands_alone(hub: LoopbackHub, tmp_path: Path):
    """Each save and the end of a run push a complete model folder, but never the run's state."""
    trainer = trainer_for(
        tmp_path,
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
        push_to_hub=True,
        hub_model_id="tester/tiny",
        hub_token=hub.token,
    )
    trainer.train()
    trainer.push_to_hub(license="mit")
    commits = hub.repositories["tester/tiny"].history()
    assert all("training_arguments.json" not in commit.files for commit in commits)
    assert sum("Training in progress" in commit.message for commit in commits) == 2
    files = commits[0].files
    assert {*HUB_FILES, "README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert not {"optimizer.pt", "rng_state.pth", "data_state.json", "training_arguments.json"} & set(files)
    card = ModelCard(files["README.md"].content.decode())
    assert card.data.license == "mit"
    assert 'model="tester/tiny"' in card.text


def pushing(hub: LoopbackHub, **settings: Any) -> dict[str, Any]:
    return {"push_to_hub": True, "hub_model_id": "tester/tiny", "hub_token": hub.token} | settings


def test_a_hub_that_refuses_is_found_out_before_the_first_step(hub: LoopbackHub, tmp_path: Path):
    with pytest.raises(ConnectionError, match="the repository tester/tiny can't be made or found on the Hub: "):
        trainer_for(tmp_path, **pushing(hub, hub_token="hf_wrong"))


def test_a_hub_that_cannot_be_reached_is_found_out_before_the_first_step(tmp_path: Path, monkeypatch):
    with LoopbackHub() as hub:
        hub.use_here(monkeypatch)
    with pytest.raises(ConnectionError, match="the repository tester/tiny can't be made or found on the Hub: "):
        trainer_for(tmp_path, **pushing(hub))


@pytest.mark.slow
def test_a_push_that_fails_during_training_is_mentioned_and_the_next_one_is_made(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    messages: list[str] = []
    monkeypatch.setattr("ts2net.training.pushing.logger.warning", messages.append)
    trainer = trainer_for(tmp_path, **pushing(hub))
    with hub.break_request("POST .*/commit/", status=403):
        trainer.train()
    (message,) = messages
    assert message.startswith(f"pushing {tmp_path}/checkpoint-1 to tester/tiny failed, and the training goes on: 403")
    commits = hub.repositories["tester/tiny"].history()
    assert [commit.message for commit in commits if "Training" in commit.message] == ["Training in progress, step 2"]


@pytest.mark.slow
def test_a_push_that_fails_at_the_end_says_how_to_make_it_later(hub: LoopbackHub, tmp_path: Path):
    """The model is saved, and the command in the error message pushes it."""
    trainer = trainer_for(tmp_path, **pushing(hub, hub_strategy="end"))
    trainer.train()
    with hub.break_request("POST .*/commit/", status=403), pytest.raises(PushError) as error:
        trainer.push_to_hub()
    message = str(error.value)
    assert message.startswith("pushing to tester/tiny failed: 403")
    assert (
        f"on purpose. The model is saved in {tmp_path}; push it later with: hf upload tester/tiny {tmp_path} ."
        in message
    )
    AutoModel.from_pretrained(tmp_path)
    _, _, command = message.partition("push it later with: ")
    environment = os.environ | hub.env(tmp_path / ".home", hub.token)
    hf = Path(sys.executable).with_name("hf")
    subprocess.run([hf, *shlex.split(command)[1:]], env=environment, check=True, capture_output=True, timeout=60)
    files = hub.repositories["tester/tiny"].history()[0].files
    saved = {path.name for path in tmp_path.iterdir() if path.is_file()} - {"training_arguments.json"}
    assert saved == {name for name in files if "/" not in name} - {".gitattributes"}
