"""Files of the trainer: checkpoints, models and their cards, and pushes to the Hub."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import HubStrategy

from ..errors import one_line
from ..hub import save_hub_folder
from .card import CardDetails, training_card
from .checkpoints import DataState, new_checkpoint, rotate, saving_errors, step_of
from .monitoring import Stopwatch
from .pushing import ARGUMENTS, CheckpointPushes, push_saved_model
from .sharding import WholeModel


class SavingTrainer(Trainer):
    """A Trainer whose checkpoints are complete Hub folders, written atomically."""

    sharding: WholeModel
    card_details: CardDetails
    stopwatch: Stopwatch
    pushes: CheckpointPushes | None = None
    data_state: Callable[[], DataState]
    changes: list[dict[str, Any]]
    """Settings changed on resuming; see [`DataState`]."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a Hub folder (weights, configuration, processor, code and card), and push it if `push_to_hub` is set.

        Args:
            output_dir: The folder. `None` uses `args.output_dir`.

        Raises:
            SavingError: If the folder can't be written.
        """
        model = self.sharding.model_to_save(self.model)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            with saving_errors(folder):
                save_hub_folder(model, self.processing_class, folder, card=self.model_card(self.hub_model_id))
                (folder / ARGUMENTS).write_text(self.args.to_json_string() + "\n", encoding="utf-8")
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def model_card(self, repo_id: str | None = None) -> ModelCard:
        """Return the card of the current weights."""
        step = self.state.global_step
        if not self.is_in_train and self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            step = step_of(Path(self.state.best_model_checkpoint)) or step
        names = list(self.eval_dataset) if isinstance(self.eval_dataset, dict) else ()
        model = self.sharding.unwrapped(self.model)
        return training_card(
            model, self.card_details, self.args, self.state, step, repo_id, eval_names=names, changes=self.changes
        )

    def create_model_card(self, **details: Any) -> None:
        """Write the card into `output_dir`.

        Args:
            details: Fields of [`CardDetails`] to set.
        """
        for name, value in details.items():
            if not hasattr(self.card_details, name):
                raise TypeError(f"{name!r} is not a detail of the card")
            setattr(self.card_details, name, value)
        if self.is_world_process_zero():
            self.model_card(self.hub_model_id).save(Path(self.args.output_dir) / "README.md")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Let Trainer write a checkpoint into another folder, and rename it when it is complete."""
        run_dir = Path(self.args.output_dir)
        checkpoint = run_dir / f"checkpoint-{self.state.global_step}"
        is_writer, wait = self.args.should_save, self.accelerator.wait_for_everyone
        with self.stopwatch.paused():
            with new_checkpoint(checkpoint, is_writer=is_writer, wait=wait) as written:
                with self._run_in(written.parent):
                    super()._save_checkpoint(model, trial)
                self.sharding.remove_copies(written)
                # Trainer has set the path of the best checkpoint in the folder that is about to be renamed.
                best = run_dir / f"checkpoint-{self.state.best_global_step}"
                if best == checkpoint or best.is_dir():
                    self.state.best_model_checkpoint = str(best)
                data_state = self.data_state()
                if is_writer:
                    self.state.save_to_json(str(written / "trainer_state.json"))
                    (written / ARGUMENTS).write_text(self.args.to_json_string() + "\n", encoding="utf-8")
                    if not self.args.save_only_model:
                        data_state.save(written)
            if self.args.push_to_hub and self.is_world_process_zero():
                self._push_checkpoint(checkpoint)
            if is_writer:
                # Not `best`, because with more evaluations than checkpoints that step may not have been saved.
                best_saved = self.state.best_model_checkpoint
                rotate(run_dir, self.args.save_total_limit, {checkpoint, *([Path(best_saved)] if best_saved else [])})

    @contextmanager
    def _run_in(self, folder: Path) -> Iterator[None]:
        """Make Trainer use `folder` as the folder of the run, without pushing it or deleting checkpoints."""
        original = {name: getattr(self.args, name) for name in ("output_dir", "push_to_hub", "save_total_limit")}
        self.args.output_dir, self.args.push_to_hub, self.args.save_total_limit = str(folder), False, None
        try:
            yield
        finally:
            for name, value in original.items():
                setattr(self.args, name, value)

    def finish_files(self) -> None:
        """Finish pushes and delete checkpoints, as Trainer does after logging `train_loss`, but safely if killed."""
        if self.pushes is not None:
            self.pushes.finish()
        best = self.state.best_model_checkpoint
        if best is not None and self.args.should_save and self.args.save_total_limit == 1:
            rotate(Path(self.args.output_dir), 1, {Path(best)})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load the weights to resume from."""
        self.sharding.load_weights(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Load the weights of the best checkpoint."""
        self.sharding.load_weights(self.model, Path(str(self.state.best_model_checkpoint)))

    # ---- Hub ----

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository if it doesn't exist.

        Raises:
            ConnectionError: If the Hub can't be reached or refuses the request.
        """
        try:
            super().init_hf_repo(token, private)
        except Exception as error:  # each HTTP client has its own error types
            name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
            raise ConnectionError(
                f"push_to_hub: the repository {name} can't be made or found on the Hub: {one_line(error)}"
            ) from error

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        **details: Any,
    ) -> Any:
        """Save the model, and push it with its processor, code and card in one commit.

        Args:
            commit_message: Title of the commit.
            blocking: Wait until the push has finished.
            token: Token to use instead of `args.hub_token`.
            revision: Branch to use instead of `args.hub_revision`.
            details: Fields of [`CardDetails`] to set.

        Returns:
            The commit, or its future if `blocking` is False; `None` on all processes except the main process.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**details)
        if self.pushes is not None:
            self.pushes.finish()

        push = partial(
            push_saved_model,
            Path(self.args.output_dir),
            self.processing_class,
            str(self.hub_model_id),
            self.model_card(self.hub_model_id),
            private=self.args.hub_private_repo,
            revision=revision or self.args.hub_revision,
            message=commit_message or "End of training",
            token=token or self.args.hub_token,
        )
        return push() if blocking else HfApi().run_as_future(push)

    def _push_checkpoint(self, checkpoint: Path) -> None:
        """Start to push a checkpoint according to `hub_strategy`."""
        strategy = self.args.hub_strategy
        if strategy == HubStrategy.END:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.pushes is None:
            self.pushes = CheckpointPushes(str(self.hub_model_id), self.args.hub_token, self.args.hub_revision)
        state_folder = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: checkpoint.name}
        message = f"Training in progress, step {self.state.global_step}"
        self.pushes.start(checkpoint, message, state_folder.get(strategy))
