"""Private attributes of other libraries that training depends on: all are listed here, and all exist.

If one of these tests fails after an upgrade, read what the library does now before the list is changed.
"""

import argparse
import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
from transformers import HfArgumentParser, Trainer, TrainingArguments

import ts2net.training

FOLDER = Path(ts2net.training.__file__).parent
# Methods that are overridden or called, with their expected parameters.
TRAINER_METHODS = {
    "_get_grad_norm": ["self", "model", "grad_norm"],
    "_load_best_model": ["self"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_save_checkpoint": ["self", "model", "trial"],
}
# Instance attributes: the number of GPUs of TrainingArguments, and the options of an ArgumentParser.
ATTRIBUTES = {"_n_gpu", "_actions"}


@pytest.mark.parametrize("name", TRAINER_METHODS)
def test_trainer_has_the_method_that_is_overridden(name: str):
    assert [*inspect.signature(getattr(Trainer, name)).parameters] == TRAINER_METHODS[name]


def test_trainer_calls_the_methods_that_are_overridden():
    """An override that Trainer doesn't call would have no effect."""
    source = inspect.getsource(Trainer)
    for name in TRAINER_METHODS:
        assert f"self.{name}(" in source


def test_training_arguments_keep_the_number_of_gpus_in_a_field(tmp_path: Path):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    args._n_gpu = 1
    assert args.n_gpu == 1


def test_parsers_list_their_options_and_name_their_groups():
    @dataclasses.dataclass
    class Settings:
        _argument_group_name = "mine"
        number: int = 1

    parser = HfArgumentParser([Settings])
    assert {action.dest for action in parser._actions} == {"help", "number"}
    assert all(isinstance(action, argparse.Action) for action in parser._actions)
    assert "mine:" in parser.format_help()


def test_nothing_else_that_is_private_is_used():
    """No unlisted private attribute of a base class in training is used."""
    used = set()
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                used.add(node.name)
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    libraries = {*dir(Trainer), *dir(TrainingArguments), *dir(HfArgumentParser()), *ATTRIBUTES}
    assert private & libraries == TRAINER_METHODS.keys() | ATTRIBUTES
