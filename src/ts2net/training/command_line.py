"""Settings of `python -m ts2net.training`, from a recipe and from the command line, which overrides the recipe.

A recipe is a YAML file whose keys are the names of the command line options. Each value is converted in the same way
as on the command line, so a recipe accepts the same values. The number of frames, the number of words and the clock
come from the benchmark if neither sets them.
"""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from ..benchmarks import BENCHMARKS
from ..named_values import json_or_text, parse_named_values
from .arguments import TS2NetTrainingArguments

RECIPES = Path(__file__).parent / "recipes"

_USAGE = """accelerate launch -m ts2net.training --recipe NAME|FILE.yaml --model MODEL --train_data PATH|REPOSITORY
         --output_dir FOLDER [--eval_data PATH|REPOSITORY] [--resume_from_checkpoint auto] [--OPTION VALUE ...]"""
_KEY_VALUE_OPTIONS = ("model_config", "data_options", "eval_data_options")


@dataclass
class ModelSettings:
    """The model to train."""

    _argument_group_name = "model"

    model: str | None = field(
        default=None, metadata={"help": "Folder or Hub repository of a CLIP, or of a TS2-Net to train further."}
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the repository."})
    model_config: list[str] = field(
        default_factory=list,
        metadata={"help": "KEY=VALUE ...: fields of TS2NetConfig and shift_* ones, for a model started from CLIP."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, flash_attention_2, ...; default: the library chooses."}
    )


@dataclass
class DataSettings:
    """The data for training and evaluation."""

    _argument_group_name = "data"

    benchmark: str | None = field(
        default=None,
        metadata={"help": "The benchmark of the data: a name that `ts2net prepare` knows, 'folder' or 'dataset'."},
    )
    train_data: str | None = field(
        default=None, metadata={"help": "Folder made by `ts2net prepare`, or dataset repository on the Hub."}
    )
    train_split: str = field(default="train", metadata={"help": "The split to train on."})
    eval_data: str | None = field(
        default=None, metadata={"help": "The same for evaluation; default: train_data, which has several splits."}
    )
    eval_split: str = field(default="test", metadata={"help": "The split to evaluate on."})
    data_options: list[str] = field(
        default_factory=list,
        metadata={"help": "KEY=VALUE ...: for the benchmarks 'folder' and 'dataset', such as video_column=clip."},
    )
    eval_data_options: list[str] = field(
        default_factory=list,
        metadata={"help": "The same for evaluation; default: data_options without their captions."},
    )
    streaming: bool = field(default=True, metadata={"help": "Read videos as they come, without a copy on this disk."})


@dataclass
class Settings:
    """All settings of a run."""

    model: ModelSettings
    data: DataSettings
    training: TS2NetTrainingArguments
    model_config: dict[str, Any]
    data_options: dict[str, Any]
    eval_data_options: dict[str, Any]


class _Parser(HfArgumentParser):
    """Parser that raises an error of one line, without the usage text of hundreds of options."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse(args: Sequence[str]) -> Settings:
    """Parse the command line and the recipe that it names.

    Raises:
        FileNotFoundError: If the recipe does not exist.
        ValueError: If an option or a key of the recipe is unknown, missing or has a wrong value.
        SystemExit: After `--help`.
    """
    parser = _Parser(
        [ModelSettings, DataSettings, TS2NetTrainingArguments],
        usage=_USAGE,
        prog="ts2net.training",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", help=f"A YAML file of these options, or one of {', '.join(recipe_names())}.")
    recipe_parser = _Parser(add_help=False, allow_abbrev=False)
    recipe_parser.add_argument("--recipe")
    recipe = recipe_parser.parse_known_args(list(args))[0].recipe

    parser.set_defaults(output_dir="")  # the library's default would mix the runs of one working directory
    actions: dict[str, argparse.Action] = {}
    for action in options_of(parser):
        if action.dest not in ("help", "recipe"):
            actions.setdefault(action.dest, action)  # keep the first: --no_streaming and --streaming share a name
    pairs: dict[str, dict[str, Any]] = {name: {} for name in _KEY_VALUE_OPTIONS}
    if recipe is not None:
        path = _recipe_path(recipe)
        values = _read_yaml(path)
        for name in pairs:
            pairs[name] = _mapping(values.pop(name, {}), f"{path}: {name}")
        parser.set_defaults(**{name: _converted(name, value, actions, path) for name, value in values.items()})

    model, data, training, _, unknown = parser.parse_args_into_dataclasses(
        list(args), return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        valid_options = [option for action in options_of(parser) for option in action.option_strings]
        raise ValueError(f"unknown option {unknown[0]}{_similar(unknown[0], valid_options)}")
    for name, value in [
        ("model", model.model),
        ("benchmark", data.benchmark),
        ("train_data", data.train_data),
        ("output_dir", training.output_dir),
    ]:
        if not value:
            raise ValueError(f"--{name} is missing: {actions[name].help}")
    if data.benchmark in BENCHMARKS:
        benchmark = BENCHMARKS[data.benchmark]
        training.num_frames = benchmark.num_frames if training.num_frames is None else training.num_frames
        training.max_words = benchmark.max_words if training.max_words is None else training.max_words
        training.clock = benchmark.clock if training.clock is None else training.clock
    return Settings(
        model,
        data,
        training,
        model_config=pairs["model_config"] | _pairs("model_config", model.model_config),
        data_options=pairs["data_options"] | _pairs("data_options", data.data_options),
        eval_data_options=pairs["eval_data_options"] | _pairs("eval_data_options", data.eval_data_options),
    )


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return all options of a parser, for which argparse has no public attribute."""
    return parser._actions


def recipe_names() -> list[str]:
    """Return the names of the recipes in the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _recipe_path(recipe: str) -> Path:
    built_in = RECIPES / f"{recipe}.yaml"
    if recipe in recipe_names():
        return built_in
    path = Path(recipe)
    if not path.is_file():
        raise FileNotFoundError(f"{recipe}: no such recipe; there are {', '.join(recipe_names())}, and any YAML file")
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(f"{path}{line}: not a YAML file: {getattr(error, 'problem', None) or error}") from None
    return _mapping(values, str(path))


def _mapping(values: Any, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{name}: expected options and their values, got {values!r}")
    return {str(key): value for key, value in values.items()}


def _converted(name: str, value: Any, actions: Mapping[str, argparse.Action], path: Path) -> Any:
    """Convert a value of a recipe in the same way as a command line value."""
    if name not in actions:
        raise ValueError(f"{path}: unknown option {name!r}{_similar(name, actions)}")
    convert = actions[name].type
    if value is None or isinstance(value, dict) or not callable(convert):
        return value
    try:
        if isinstance(value, list):
            return [convert(str(item)) for item in value]
        converted = convert(str(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        kind = getattr(convert, "__name__", "value")
        raise ValueError(f"{path}: {name}: expected {_KINDS.get(kind, kind)}, got {value!r}") from error
    choices = actions[name].choices
    if choices is not None and converted not in choices:
        raise ValueError(f"{path}: {name}: expected one of {', '.join(map(str, choices))}, got {value!r}")
    return converted


_KINDS = {"int": "a whole number", "float": "a number", "string_to_bool": "true or false"}


def _pairs(option: str, words: Sequence[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` arguments. A value that is not valid JSON is a string."""
    try:
        return {key: json_or_text(value) for key, value in parse_named_values(words, "KEY=VALUE").items()}
    except ValueError as error:
        raise ValueError(f"--{option}: {error}") from None


def _similar(name: str, valid_names: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, list(valid_names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
