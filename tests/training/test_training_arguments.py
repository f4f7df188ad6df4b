"""Training arguments: the defaults, the recipes, and refused settings."""

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ts2net.benchmarks import BENCHMARKS
from ts2net.training.arguments import TS2NetTrainingArguments
from ts2net.training.command_line import RECIPES, parse, recipe_names

REQUIRED = ["--model", "m", "--train_data", "d", "--use_cpu"]


def arguments(tmp_path: Path, **settings: Any) -> TS2NetTrainingArguments:
    return TS2NetTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)


def test_the_defaults_are_the_papers_recipe(tmp_path: Path):
    """The defaults are the settings of section 4.2 of the paper."""
    args = arguments(tmp_path)
    recipe = {
        "global_batch_size": 128,
        "num_train_epochs": 5,
        "learning_rate": 1e-4,
        "clip_learning_rate": 1e-7,
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-6,
        "weight_decay": 0.2,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        "freeze_layers": 0,
        "selection_loss_weight": 0,
    }
    assert {name: getattr(args, name) for name in recipe} == recipe
    assert args.per_device_train_batch_size == 128
    assert args.greater_is_better  # the default metric is a recall
    assert args.get_warmup_steps(1000) == 100


def test_the_batch_is_shared_by_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`global_batch_size` is the whole batch, because the loss depends on it, and has to divide evenly."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="global_batch_size=128 can't be split evenly over 3 processes"):
        arguments(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "fewer negatives.* give gradient_cache_chunk_size"),
        ({"per_device_train_batch_size": 16}, "per_device_train_batch_size=16 does not go with global_batch_size=128"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size=True can't be used"),
        ({"ignore_data_skip": True}, "ignore_data_skip=True can't be used"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 can't be used"),
        ({"dataloader_drop_last": True}, "dataloader_drop_last=True can't be used"),
        ({"dataloader_prefetch_factor": 4}, "dataloader_prefetch_factor=4 can't be used"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers=True can't be used"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy=group_by_length can't be used"),
        ({"eval_accumulation_steps": 2}, "eval_accumulation_steps=2 can't be used"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics=True can't be used"),
        ({"include_for_metrics": ["loss"]}, r"include_for_metrics=\['loss'\] can't be used"),
        ({"prediction_loss_only": True}, "prediction_loss_only=True can't be used"),
        ({"label_names": ["labels"]}, r"label_names=\['labels'\] can't be used"),
        ({"global_batch_size": 1}, "global_batch_size must be at least 2, got 1"),
        ({"gradient_cache_chunk_size": 0}, "gradient_cache_chunk_size must be at least 1, got 0"),
        ({"max_broken_share": 5}, "max_broken_share must lie between 0 and 1, got 5"),
        ({"selection_loss_weight": -0.5}, "selection_loss_weight must be a number from 0, got -0.5"),
        ({"selection_loss_steps": 0}, "selection_loss_steps must be a whole number of steps, or below 1 .* got 0"),
        ({"selection_loss_steps": 1.5}, "selection_loss_steps must be a whole number of steps, .* got 1.5"),
        ({"clip_learning_rate": -1.0}, "clip_learning_rate must be 0 or more, got -1.0"),
    ],
)
def test_what_would_train_something_else_is_refused(settings: dict[str, Any], message: str, tmp_path: Path):
    """Trainer's settings that would silently change the loss or have no effect are errors."""
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_deepspeed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DeepSpeed is refused as an argument and as the environment variable that Accelerate's launcher sets."""
    message = "DeepSpeed is not supported: FSDP 2 shards weights and optimizer state too"
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, deepspeed={"zero_optimization": {"stage": 2}})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path)


@pytest.mark.parametrize("name", ["activitynet", "didemo", "lsmdc", "msrvtt", "msvd", "vatex"])
def test_a_recipe_agrees_with_its_benchmark(name: str, tmp_path: Path):
    """A recipe uses the evaluation protocol of its benchmark."""
    settings = parse(["--recipe", name, *REQUIRED, "--output_dir", str(tmp_path)])
    benchmark = BENCHMARKS[name]
    assert settings.data.benchmark == name
    assert (settings.training.num_frames, settings.training.max_words) == (benchmark.num_frames, benchmark.max_words)
    assert settings.data.eval_split == benchmark.evaluation_split
    assert settings.data.train_split in benchmark.splits
    assert settings.training.load_best_model_at_end
    assert settings.training.metric_for_best_model == "text_to_video_R@1"


def test_a_recipe_takes_the_seconds_of_its_benchmark(tmp_path: Path):
    """Recipes of the paper's benchmarks use the released code's clock; `--clock` overrides a recipe."""
    for name in recipe_names():
        clock = "seconds" if name == "moving_things" else "released"
        line = ["--recipe", name, *REQUIRED, "--output_dir", str(tmp_path)]
        assert parse(line).training.clock == clock
        assert parse([*line, "--clock", "seconds"]).training.clock == "seconds"
    with pytest.raises(ValueError, match="clock must be 'seconds' or 'released', got 'frames'"):
        arguments(tmp_path, clock="frames")


def test_help_names_every_recipe(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_:
        parse(["--help"])
    assert exit_.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(name in printed for name in ["--clip_learning_rate", *recipe_names()])


def test_recipes_are_read_by_name_and_come_with_the_package():
    assert set(recipe_names()) >= {"activitynet", "didemo", "lsmdc", "msrvtt", "msvd", "vatex"}
    assert all(yaml.safe_load(path.read_text()) for path in RECIPES.iterdir())


def test_the_command_line_has_the_last_word(tmp_path: Path):
    """The command line overrides the recipe, and the recipe the defaults, also for single `model_config` fields."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "benchmark: msrvtt\nlearning_rate: 3e-4\nglobal_batch_size: 64\nbf16: false\n"
        "model_config: {num_selected_tokens: 2, shift_kind: none}\n"
    )
    line = ["--recipe", str(recipe), *REQUIRED, "--output_dir", str(tmp_path), "--global_batch_size", "32"]
    settings = parse([*line, "--model_config", "shift_kind=channel", "shift_layers=[1, 2]"])
    # YAML reads 3e-4 as a string; the option's type converts it.
    assert settings.training.learning_rate == 3e-4
    assert settings.training.global_batch_size == 32
    assert settings.model_config == {"num_selected_tokens": 2, "shift_kind": "channel", "shift_layers": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", r"mine.yaml: unknown option 'learning_rat'; did you mean 'learning_rate'\?"),
        ("num_frames: twelve", "mine.yaml: num_frames: expected a whole number, got 'twelve'"),
        ("streaming: maybe", "mine.yaml: streaming: expected true or false, got 'maybe'"),
        ("learning_rate: [1, 2", "mine.yaml, line 2: not a YAML file"),
        ("- a\n- b", "mine.yaml: expected options and their values"),
        ("model_config: 3", "mine.yaml: model_config: expected options and their values, got 3"),
    ],
)
def test_a_wrong_recipe_is_named_with_the_key(text: str, message: str, tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text + "\n")
    with pytest.raises(ValueError, match=message):
        parse(["--recipe", str(recipe), *REQUIRED, "--output_dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--recipe", "msrvtt"], "--model is missing"),
        (["--recipe", "msrvtt", *REQUIRED, "--lerning_rate", "1"], "unknown option --lerning_rate; did you mean"),
        (["--recipe", "msrvtt", *REQUIRED, "--num_frames", "x"], "argument --num_frames.*invalid int value: 'x'"),
        (
            ["--recipe", "msrvtt", *REQUIRED, "--output_dir", "o", "--model_config", "x"],
            "--model_config: expected KEY=VALUE, got 'x'",
        ),
        (REQUIRED, "--benchmark is missing"),
        (["--recipe", "msrvtt", *REQUIRED], "--output_dir is missing"),
    ],
)
def test_a_wrong_command_line_is_explained_in_a_line(line: list[str], message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        parse(line)


@pytest.mark.parametrize("tracker", ["mlflow", "neptune", "comet_ml"])
def test_a_tracker_that_is_not_installed_is_said_and_nothing_else(tracker: str, tmp_path: Path, monkeypatch):
    """Deleting the library's partially constructed callback must not print a second error."""
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(ValueError, match=f"^report_to={tracker}: .* to be installed"):
        TS2NetTrainingArguments(str(tmp_path), report_to=tracker)
    gc.collect()
    assert ignored == []
