"""Small training runs in separate processes, which kill themselves at a given point."""

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from support.fork_server import fork_context
from support.streamed_data import FEATURES, row, stream
from support.tiny_models import tiny_model, tiny_processor
from ts2net.training import checkpoints, saving
from ts2net.training.arguments import TS2NetTrainingArguments
from ts2net.training.trainer import TS2NetTrainer

NUM_SHARDS = 4


def training_rows() -> list[list[dict[str, Any]]]:
    """Create sixteen videos in four shards, with two captions each."""
    return [[row(4 * shard + index, num_captions=2) for index in range(4)] for shard in range(NUM_SHARDS)]


def tiny_arguments(output_dir: Path, **settings: Any) -> TS2NetTrainingArguments:
    """Create arguments for three epochs of four steps on the CPU, logged at every step."""
    defaults = {
        "global_batch_size": 8,
        "num_train_epochs": 3,
        "samples_per_epoch": 32,
        "max_words": 16,
        "learning_rate": 1e-3,
        "clip_learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "dataloader_num_workers": 0,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return TS2NetTrainingArguments(output_dir=str(output_dir), **(defaults | settings))


def model_with_dropout() -> torch.nn.Module:
    """Create a tiny model whose training is only reproducible with the same state of torch's random numbers."""
    model = tiny_model()
    for layer in model.text_model.encoder.layers:
        layer.self_attn.dropout = 0.2
    return model


class LossLog(TrainerCallback):
    """Logs the loss and the gradient norm of every step to a file, in full precision."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" in logs:
            with self.path.open("a") as file:
                figures = {name: logs[name] for name in ("loss", "grad_norm", "learning_rate", "broken_videos")}
                file.write(json.dumps({"step": state.global_step} | figures) + "\n")


class KilledTrainer(TS2NetTrainer):
    """A trainer that is killed, as by a power cut, at `where`: a word and a step."""

    where: tuple[str, int] = ("nowhere", 0)

    def die(self, word: str, step: int) -> None:
        if (word, step) == self.where:
            os.kill(os.getpid(), signal.SIGKILL)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.die("step", self.state.global_step + 1)  # gradients are computed, weights are not updated yet
        return loss

    def _save_rng_state(self, output_dir: str) -> None:
        self.die("save", self.state.global_step)  # weights and optimiser are written, the rest is not
        super()._save_rng_state(output_dir)


def run(folder: Path, where: tuple[str, int] = ("nowhere", 0), **settings: Any) -> None:
    """Train in `folder/run`, resuming from its last checkpoint if there is one, and save the model there."""
    torch.set_num_threads(1)
    shards = training_rows()
    shards[1][2]["video"] = {"bytes": b"not a video", "path": None}
    trainer: KilledTrainer

    def evaluation_rows() -> Iterator[dict[str, Any]]:
        for number in range(6):
            if number == 3:
                trainer.die("evaluation", trainer.state.global_step)
            yield row(100 + number)

    trainer = KilledTrainer(
        model_with_dropout(),
        tiny_arguments(
            folder / "run",
            dataloader_num_workers=2,
            save_strategy="steps",
            save_steps=2,
            save_total_limit=2,
            eval_strategy="steps",
            eval_steps=2,
            max_broken_share=1,
            **settings,
        ),
        train_dataset=stream(shards),
        eval_dataset=IterableDataset.from_generator(evaluation_rows, features=FEATURES),
        processing_class=tiny_processor(),
        callbacks=[LossLog(folder / "losses.jsonl")],
    )
    trainer.where = where
    _die_between_renames(trainer)
    trainer.train(resume_from_checkpoint="auto")
    trainer.save_model()
    (folder / "history.json").write_text(json.dumps(trainer.state.log_history))


def _die_between_renames(trainer: KilledTrainer) -> None:
    flush, rotate = checkpoints._flush, saving.rotate

    def die_or_flush(path: Path) -> None:
        # The last flush before the checkpoint is renamed is the flush of its folder.
        if path.name == f"checkpoint-{trainer.state.global_step}":
            trainer.die("rename", trainer.state.global_step)
        flush(path)

    def die_or_rotate(*args: Any, **kwargs: Any) -> None:
        trainer.die("rotate", trainer.state.global_step)
        rotate(*args, **kwargs)

    checkpoints._flush, saving.rotate = die_or_flush, die_or_rotate


def run_in_processes(folder: Path, *wheres: str) -> list[dict[str, Any]]:
    """Call [`run`] once for each `"word:step"`, each in a separate process, one after the other.

    Returns:
        For each run its `exit_code`, negative if a signal ended it, and the last `checkpoint` that it left.
    """
    # All are forks of one process, which notices their end at once, even if other processes hold their pipes open.
    context = fork_context()
    receiver, sender = context.Pipe(duplex=False)
    context.Process(target=_run_in_forks, args=(folder, wheres, sender)).start()
    assert receiver.poll(timeout=300)
    return receiver.recv()


def _run_in_forks(folder: Path, wheres: tuple[str, ...], sender: Connection) -> None:
    answers = []
    for where in wheres:
        word, _, step = where.partition(":")
        process = multiprocessing.get_context("fork").Process(target=run, args=(folder, (word, int(step))))
        process.start()
        process.join()
        last = get_last_checkpoint(folder / "run") if (folder / "run").exists() else None
        answers.append({"exit_code": process.exitcode, "checkpoint": last and Path(last).name})
    sender.send(answers)


def losses(folder: Path) -> dict[int, dict[str, float]]:
    """Read the log of [`LossLog`] by step. If a step was run twice, the last entry is returned."""
    entries = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return {entry.pop("step"): entry for entry in entries}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Load the weights that a run saved at its end."""
    return load_file(folder / "run" / "model.safetensors")
