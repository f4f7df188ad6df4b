"""The trainer on a tiny model and real videos: optimisation, logging, errors, saving and pushing."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import EvalResult, ModelCard
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, TrainerCallback

from support.streamed_data import FEATURES, row, stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net.hub import HUB_FILES
from ts2net.training.monitoring import NonFiniteError, TooManyBrokenVideosError, selection_entropy
from ts2net.training.trainer import CardDetails, TS2NetTrainer

pytestmark = pytest.mark.slow

MAX_LOGIT_SCALE = math.log(100)


def trainer_for(folder: Path, model: Any = None, rows: Any = None, **settings: Any) -> TS2NetTrainer:
    callbacks = settings.pop("callbacks", None)
    evaluation = settings.pop("eval_dataset", None)
    return TS2NetTrainer(
        model or tiny_model(),
        tiny_arguments(folder, **settings),
        train_dataset=stream(rows or training_rows()),
        eval_dataset=evaluation,
        processing_class=tiny_processor(),
        card=CardDetails(base_model="openai/clip-vit-base-patch32", evaluation_name="Tiny", evaluation_type="tiny"),
        callbacks=callbacks,
    )


def step_losses(trainer: TS2NetTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def copy_of_weights(trainer: TS2NetTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def evaluation_rows(count: int = 6) -> list[list[dict[str, Any]]]:
    return [[row(number) for number in range(count)]]


# ----------------------------------------------------------------------------------------------------------------
# Optimisation
# ----------------------------------------------------------------------------------------------------------------


def test_clip_and_the_new_parameters_have_rates_of_their_own(tmp_path: Path):
    """CLIP and the new parameters have their own rates, and only matrices and embeddings have weight decay."""
    trainer = trainer_for(tmp_path)
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    settings = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(settings) == set(names.values())
    new = re.compile(r"token_selector\.|temporal_encoder\.")
    no_weight = re.compile(r"bias$|norm|logit_scale|class_embedding")
    for name, (learning_rate, weight_decay) in settings.items():
        assert learning_rate == (1e-3 if new.match(name) else 1e-4), name
        assert weight_decay == (0.0 if no_weight.search(name) else 0.2), name
    assert settings["text_model.embeddings.token_embedding.weight"] == (1e-4, 0.2)


def test_the_rates_warm_up_and_then_fall_to_zero(tmp_path: Path):
    """Linear over the first tenth of the run, then cosine to its very end."""
    trainer = trainer_for(tmp_path, num_train_epochs=5)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(rates) == 20
    assert rates[:3] == pytest.approx([0.0, 0.5e-3, 1e-3])
    expected = [0.5e-3 * (1 + math.cos(math.pi * step / 18)) for step in range(18)]
    assert rates[2:] == pytest.approx(expected)


def test_the_logit_scale_stays_below_its_limit(tmp_path: Path):
    """A step that raises the logit scale above ln 100 is followed by a clamp."""
    model = tiny_model()
    with torch.no_grad():
        model.logit_scale.fill_(MAX_LOGIT_SCALE - 1e-4)
    model.logit_scale.register_hook(lambda grad: -torch.ones_like(grad))  # the step increases the scale
    trainer = trainer_for(tmp_path, model, max_steps=2, clip_learning_rate=0.1, warmup_steps=0)
    trainer.train()
    assert model.logit_scale.item() == pytest.approx(MAX_LOGIT_SCALE, abs=1e-6)
    assert model.logit_scale.item() <= MAX_LOGIT_SCALE + 1e-6


def test_lower_layers_can_be_frozen(tmp_path: Path):
    """The embeddings and the first layers of both towers don't change, and all other parameters do."""
    trainer = trainer_for(tmp_path, max_steps=3, freeze_layers=2, warmup_steps=0)
    before = copy_of_weights(trainer)
    trainer.train()
    frozen = re.compile(r"(text|vision)_model\.(embeddings\.|pre_layrnorm\.|encoder\.layers\.[01]\.)")
    for name, value in trainer.model.state_dict().items():
        # A bias of the keys does not change a softmax, so its gradient is 0.
        if "k_proj.bias" not in name:
            assert torch.equal(value, before[name]) == bool(frozen.match(name)), name
    with pytest.raises(ValueError, match="freeze_layers=4, but the vision transformer has 3 layers"):
        trainer_for(tmp_path, freeze_layers=4)


def test_one_tower_can_be_frozen_by_itself(tmp_path: Path):
    """-1 freezes a whole tower with its projection, and the other tower's lower layers can be frozen separately."""
    trainer = trainer_for(tmp_path, freeze_vision_layers=-1, freeze_text_layers=1)
    frozen = re.compile(r"vision_model\.|visual_projection\.|text_model\.(embeddings\.|encoder\.layers\.0\.)")
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad != bool(frozen.match(name)), name
    card = trainer.model_card().text
    assert "frozen: the lowest 1 layers of the text transformer and all layers of the vision transformer" in card


@pytest.mark.parametrize(
    "settings", [{"gradient_cache_chunk_size": 3}, {"gradient_checkpointing": True}], ids=["cache", "checkpointing"]
)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_what_saves_memory_does_not_change_the_run(settings: dict[str, Any], tmp_path: Path):
    """Results are equal up to rounding, with selection noise and with a selection loss that fades before the end."""
    fading = {"max_steps": 5, "selection_loss_weight": 1.0, "selection_loss_steps": 3}
    plain, saving = trainer_for(tmp_path, **fading), trainer_for(tmp_path, **fading, **settings)
    plain.train(), saving.train()
    assert step_losses(saving) == pytest.approx(step_losses(plain), rel=1e-5)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(saving.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    figures = [trainer.state.log_history[-2] for trainer in (plain, saving)]
    for name in ("batch_accuracy", "selection_entropy", "logit_scale"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-4)
    for trainer in (plain, saving):
        losses = [entry.get("selection_loss") for entry in trainer.state.log_history if "loss" in entry]
        assert all(loss > 0 for loss in losses[:3])
        assert losses[3:] == [None, None]
    assert "selection loss: weight 1, falling to 0 over the first 3 steps" in plain.model_card().text


class Modes(torch.optim.SGD):
    """An optimiser with a training mode, as schedule-free optimisers have."""

    trained = False

    def train(self) -> None:
        self.trained = True


@pytest.mark.parametrize("chunk_size", [None, 3], ids=["plain", "cache"])
def test_a_step_is_trainers_own_with_a_gradient_cache_too(chunk_size: int | None, tmp_path: Path, monkeypatch):
    """A step switches the optimiser to training mode and empties the device cache at the requested interval."""
    emptied = []
    for module in ("transformers.trainer", "ts2net.training.trainer"):
        monkeypatch.setattr(f"{module}.clear_device_cache", lambda: emptied.append(1))
    settings = {"max_steps": 4, "torch_empty_cache_steps": 2, "gradient_cache_chunk_size": chunk_size}
    trainer = trainer_for(tmp_path, **settings)
    trainer.optimizer = Modes(trainer.model.parameters(), lr=1e-3)
    trainer.train()
    assert trainer.optimizer.optimizer.trained
    assert len(emptied) == 2


def test_a_compiled_model_trains_alike(tmp_path: Path):
    """A model traced by torch.compile (eager backend) trains equally and is saved under the original names."""
    plain = trainer_for(tmp_path / "plain", max_steps=3)
    compiled = trainer_for(
        tmp_path / "compiled", max_steps=3, torch_compile_backend="eager", eval_dataset=stream(evaluation_rows())
    )
    plain.train(), compiled.train()
    assert step_losses(compiled) == pytest.approx(step_losses(plain), rel=1e-5)
    assert compiled.evaluate()["eval_text_to_video_R@50"] == 100
    compiled.save_model()
    saved = load_file(tmp_path / "compiled" / "model.safetensors")
    assert set(saved) == set(plain.model.state_dict())


# ----------------------------------------------------------------------------------------------------------------
# Figures
# ----------------------------------------------------------------------------------------------------------------


def test_every_step_says_how_it_goes(tmp_path: Path):
    trainer = trainer_for(tmp_path, logging_steps=2)
    result = trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 6
    for entry in entries:
        assert "selection_loss" not in entry
        assert 0 <= entry["batch_accuracy"] <= 1
        assert entry["logit_scale"] == pytest.approx(2.6592, abs=0.1)
        assert math.log(3) / math.log(16) <= entry["selection_entropy"] <= 1
        assert entry["grad_norm"] > 0
        assert entry["clips_per_second"] > 0
        assert 0 <= entry["data_wait_share"] <= 1
        assert entry["broken_videos"] == 0
    assert result.metrics["train_broken_videos"] == 0


def test_selection_entropy_is_one_for_chance_and_least_for_a_sure_choice():
    """Equal scores leave the selection to the noise (entropy 1); scores far apart make it certain (the minimum)."""
    config = tiny_model().config
    config.selection_num_samples = 2000
    alike, apart = torch.zeros(2, 6, 17), torch.arange(17.0).expand(2, 6, 17)
    seeds, mask = torch.tensor([1, 2]), torch.ones(2, 6, dtype=torch.bool)
    assert selection_entropy(alike, seeds, mask, config).mean() == pytest.approx(1, abs=0.01)
    assert selection_entropy(apart, seeds, mask, config).mean() == pytest.approx(math.log(3) / math.log(16), abs=1e-6)
    mask[:, 3:] = False
    mixed = torch.cat([alike[:, :3], apart[:, 3:]], dim=1)  # padding frames do not count
    assert selection_entropy(mixed, seeds, mask, config).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("logging_dir", [None, "logs"])
def test_trackers_see_the_figures(logging_dir: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Our logged figures reach Trainer's TensorBoard callback, in the folder of `logging_dir` if it is given."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    trainer = trainer_for(tmp_path / "run", max_steps=2, report_to="tensorboard", logging_dir=logging_dir)
    trainer.train()
    (file,) = (tmp_path / (logging_dir or "run/runs")).rglob("events.out.tfevents.*")
    events = event_accumulator.EventAccumulator(str(file.parent))
    events.Reload()
    assert {"train/loss", "train/batch_accuracy", "train/clips_per_second"} <= set(events.Tags()["scalars"])


# ----------------------------------------------------------------------------------------------------------------
# Errors that stop a run
# ----------------------------------------------------------------------------------------------------------------


class Poison(TrainerCallback):
    """Makes a weight of the model NaN before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            model.text_projection.weight.data[0, 0] = float("nan")


@pytest.mark.parametrize("settings", [{}, {"gradient_cache_chunk_size": 4}], ids=["plain", "cache"])
def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(settings: dict[str, Any], tmp_path: Path):
    """The error names the step, the videos and remedies, and the optimiser does not use the gradient."""
    trainer = trainer_for(tmp_path, callbacks=[Poison(3)], **settings)
    with pytest.raises(NonFiniteError, match=r"the loss is nan at step 3.*clip\d+.*Try a lower learning_rate"):
        trainer.train()
    assert trainer.state.global_step == 2
    weights = trainer.model.state_dict()
    weights.pop("text_projection.weight")
    assert all(value.isfinite().all() for value in weights.values())


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(tmp_path: Path):
    model = tiny_model()
    model.visual_projection.weight.register_hook(lambda grad: grad * float("inf"))
    trainer = trainer_for(tmp_path, model)
    before = copy_of_weights(trainer)
    with pytest.raises(NonFiniteError, match="norm of the gradient is (nan|inf) at step 1"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def with_broken(*names: str) -> list[list[dict[str, Any]]]:
    rows = training_rows()
    for shard in rows:
        for one in shard:
            if one["id"] in names:
                one["video"] = {"bytes": b"not a video", "path": None}
    return rows


@pytest.fixture
def warnings_of_monitoring(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings about broken videos; the library's loggers do not reach pytest's `caplog`."""
    messages: list[str] = []
    monkeypatch.setattr("ts2net.training.monitoring.logger.warning", messages.append)
    return messages


def test_a_broken_video_is_skipped_counted_and_named_once(tmp_path: Path, warnings_of_monitoring: list[str]):
    """A broken video is named once, however often the data repeats, and counted once in the final figure."""
    trainer = trainer_for(tmp_path, rows=with_broken("clip3", "clip9"), max_broken_share=1)
    result = trainer.train()
    assert [message.split("'")[1] for message in sorted(warnings_of_monitoring)] == ["clip3", "clip9"]
    assert result.metrics["train_broken_videos"] == 2
    assert trainer._broken.videos_broken > 4


def test_too_many_broken_videos_stop_the_run(tmp_path: Path):
    trainer = trainer_for(tmp_path, rows=with_broken(*(f"clip{4 * shard}" for shard in range(4))), num_train_epochs=9)
    message = (
        r"\d+ of \d+ training videos could not be used, more than max_broken_share=0.05 allows; .*'clip0' \(not a"
    )
    with pytest.raises(TooManyBrokenVideosError, match=message):
        trainer.train()


# ----------------------------------------------------------------------------------------------------------------
# Data
# ----------------------------------------------------------------------------------------------------------------


def test_a_stream_of_unknown_length_needs_the_number_of_steps(tmp_path: Path):
    with pytest.raises(ValueError, match="give samples_per_epoch or max_steps"):
        trainer_for(tmp_path, samples_per_epoch=None).train()
    trainer = trainer_for(tmp_path, samples_per_epoch=None, max_steps=7)
    trainer.train()
    assert trainer.state.global_step == 7


def test_a_data_set_knows_its_own_length(tmp_path: Path):
    """The length is the number of captions; an epoch uses each caption once."""
    datasets = pytest.importorskip("datasets")
    rows = [one for shard in training_rows() for one in shard]
    trainer = trainer_for(tmp_path, samples_per_epoch=None, num_train_epochs=1)
    trainer.train_dataset = datasets.Dataset.from_list(rows, features=FEATURES)
    trainer.train()
    assert trainer.state.max_steps == 32 // 8


def test_too_little_data_for_a_batch_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="has 4 captions, fewer than global_batch_size=8"):
        trainer_for(tmp_path, samples_per_epoch=4).train()


def test_a_loss_on_selected_tokens_needs_some(tmp_path: Path):
    with pytest.raises(
        ValueError, match="selection_loss_weight=1.0 needs selected tokens, .* selection_kind is 'none'"
    ):
        trainer_for(tmp_path, tiny_model(selection_kind="none"), selection_loss_weight=1.0)


def test_more_frames_than_the_model_has_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="num_frames=7, but the model has room for 6 frames"):
        trainer_for(tmp_path, num_frames=7)


# ----------------------------------------------------------------------------------------------------------------
# Evaluation, saving, the Hub
# ----------------------------------------------------------------------------------------------------------------


class Shake(TrainerCallback):
    """Changes the model so much at each step that no two evaluations are alike."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        generator = torch.Generator().manual_seed(state.global_step)
        weight = model.text_projection.weight.data
        weight += torch.randn(weight.shape, generator=generator)


def test_the_best_checkpoint_by_text_to_video_recall_is_loaded_at_the_end(tmp_path: Path):
    """The saved folder holds the best model, and its card has that checkpoint's figures."""
    trainer = trainer_for(
        tmp_path,
        eval_dataset=stream(evaluation_rows()),
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
        callbacks=[Shake()],
    )
    trainer.train()
    trainer.save_model()
    recalls = {
        entry["step"]: entry["eval_text_to_video_R@1"]
        for entry in trainer.state.log_history
        if "eval_text_to_video_R@1" in entry
    }
    assert sorted(recalls) == [3, 6, 9, 12]
    assert len(set(recalls.values())) > 1, "the test needs recalls that differ"
    best = max(recalls, key=lambda step: (recalls[step], -step))
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    saved, expected = (
        load_file(tmp_path / "model.safetensors"),
        load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors"),
    )
    assert all(torch.equal(saved[name], expected[name]) for name in expected)

    card = ModelCard.load(tmp_path / "README.md")
    figures = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert figures["text-to-video R@1"] == round(recalls[best], 2)
    assert card.data.base_model == "openai/clip-vit-base-patch32"
    assert f"{best} of 12" in card.text
    assert "0.001 for what CLIP does not have, 0.0001 for CLIP" in card.text


class Recalls(TrainerCallback):
    """Replaces the metric of successive evaluations by the given values."""

    def __init__(self, *recalls: float, metric: str = "text_to_video_R@1") -> None:
        self.recalls = list(recalls)
        self.metric = metric

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics[f"eval_{self.metric}"] = self.recalls.pop(0)


@pytest.mark.parametrize(
    ("metric", "figures", "best"),
    [
        ("text_to_video_MnR", [9, 3, 7, 3], 2),
        ("video_to_text_MdR_with_dual_softmax", [1, 2, 3, 4], 1),
        ("text_to_video_R@5", [10, 40, 40, 20], 2),
    ],
)
def test_the_best_checkpoint_is_the_better_one_of_any_figure_and_the_earlier_of_equal_ones(
    metric: str, figures: list[float], best: int, tmp_path: Path
):
    trainer = trainer_for(
        tmp_path,
        max_steps=4,
        eval_dataset=stream(evaluation_rows()),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model=metric,
        load_best_model_at_end=True,
        callbacks=[Recalls(*figures, metric=metric)],
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")


def test_training_stops_early_also_after_it_was_resumed(tmp_path: Path):
    """A resumed run continues the patience count of its checkpoint."""
    settings: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    settings |= {"early_stopping_patience": 3, "load_best_model_at_end": True, "save_total_limit": None}
    data = stream(evaluation_rows())
    whole = trainer_for(tmp_path / "run", eval_dataset=data, callbacks=[Recalls(10, 30, 20, 30, 20, 90)], **settings)
    whole.train()
    assert (whole.state.global_step, whole.state.best_global_step) == (5, 2)
    resumed = trainer_for(tmp_path / "other", eval_dataset=data, callbacks=[Recalls(30, 20, 90)], **settings)
    resumed.train(str(tmp_path / "run" / "checkpoint-3"))
    assert resumed.state.global_step == 5


@pytest.mark.parametrize("limit", [1, 2])
def test_the_best_checkpoint_is_kept_when_not_every_evaluation_is_saved(limit: int, tmp_path: Path):
    """The best saved step, 2, is kept and loaded, because step 5, which is better, was not saved."""
    trainer = trainer_for(
        tmp_path,
        max_steps=8,
        eval_dataset=stream(evaluation_rows()),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=limit,
        load_best_model_at_end=True,
        callbacks=[Recalls(10, 30, 20, 20, 40, 20, 20, 20)],
    )
    trainer.train()
    best = tmp_path / "checkpoint-2"
    assert trainer.state.best_global_step == 5
    assert trainer.state.best_model_checkpoint == str(best)
    kept = load_file(best / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in trainer.model.state_dict().items())
    last = set() if limit == 1 else {"checkpoint-8"}
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {best.name} | last


def test_a_kill_at_the_very_end_leaves_no_half_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With `save_total_limit=1`, only the best checkpoint is kept at the end; others are renamed before deletion."""
    each_step = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    data = stream(evaluation_rows())
    limits = {"max_steps": 2, "save_total_limit": 1, "load_best_model_at_end": True}
    trainer = trainer_for(tmp_path, eval_dataset=data, callbacks=[Recalls(20, 10)], **limits, **each_step)
    deleted: list[str] = []
    rmtree = shutil.rmtree

    def noted_rmtree(folder: Any, **kwargs: Any) -> None:
        deleted.append(Path(folder).name)
        rmtree(folder, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", noted_rmtree)
    trainer.train()
    assert ".removed-checkpoint-2" in deleted
    assert not [name for name in deleted if name.startswith("checkpoint")]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


def test_every_checkpoint_is_a_whole_hub_folder(tmp_path: Path):
    """A checkpoint loads with the Auto classes and does not contain the Hub token."""
    trainer = trainer_for(tmp_path, max_steps=2, save_strategy="steps", save_steps=2, hub_token="hf_secret")
    trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert {path.name for path in checkpoint.iterdir()} >= {*HUB_FILES, "README.md", "model.safetensors"}
    model = AutoModel.from_pretrained(checkpoint)
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert AutoProcessor.from_pretrained(checkpoint).video_processor.num_frames == 6
    assert "use_cache" not in json.loads((checkpoint / "config.json").read_text())
    for path in checkpoint.rglob("*"):
        assert path.is_dir() or b"hf_secret" not in path.read_bytes(), path


def figures_on(trainer: TS2NetTrainer) -> list[EvalResult]:
    """Evaluation results in the trainer's card."""
    return trainer.model_card("me/my-ts2net").data.eval_results


def test_several_evaluation_sets_are_told_apart_by_name(tmp_path: Path):
    trainer = trainer_for(
        tmp_path, eval_dataset={"few": stream(evaluation_rows(2)), "more": stream(evaluation_rows(6))}
    )
    metrics = trainer.evaluate()
    assert {"eval_few_text_to_video_R@1", "eval_more_text_to_video_R@1"} <= set(metrics)
    assert metrics["eval_few_text_to_video_R@5"] == 100
    assert metrics["eval_few_text_to_video_R@5_with_dual_softmax"] == 100
    assert [metrics[f"eval_more_{name}"] for name in ("videos", "queries", "broken_videos")] == [6, 6, 0]


def test_one_of_several_evaluation_sets_names_the_best_checkpoint(tmp_path: Path):
    """The first set chooses the best checkpoint unless `metric_for_best_model` begins with another set's name."""
    each_step = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    sets = {"few": stream(evaluation_rows(2)), "more": stream(evaluation_rows(6))}
    trainer = trainer_for(tmp_path, eval_dataset=sets, max_steps=2, load_best_model_at_end=True, **each_step)
    trainer.train()
    few = [entry["eval_few_text_to_video_R@1"] for entry in trainer.state.log_history if "eval_few_runtime" in entry]
    assert len(few) == 2
    assert trainer.state.best_metric == max(few)
    reported = {(result.dataset_name, result.metric_name): result.metric_value for result in figures_on(trainer)}
    assert {name for name, _ in reported} == {"few", "more"}
    assert reported["few", "text-to-video R@1"] == round(max(few), 2)
    other = trainer_for(tmp_path / "other", eval_dataset=sets, metric_for_best_model="more_video_to_text_R@5")
    assert other.args.metric_for_best_model == "more_video_to_text_R@5"
