"""Lazy public names: imported at first use, cheap before, and with a clear error if a library is missing."""

import importlib
import subprocess
import sys

import pytest

from ts2net.errors import one_line
from ts2net.lazy import EXTRAS, missing_library

PACKAGES = (
    "ts2net",
    "ts2net.app",
    "ts2net.data",
    "ts2net.evaluation",
    "ts2net.hub",
    "ts2net.search",
    "ts2net.training",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported_and_is_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module._MODULES) <= set(module.__all__) == set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nope'"):
        module.Nope  # noqa: B018


def test_importing_the_package_loads_no_large_library() -> None:
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {PACKAGES!r}]; import ts2net.cli;"
        "print([name for name in ('torch', 'transformers', 'numpy', 'datasets', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_a_missing_library_is_named_with_the_extra_that_brings_it() -> None:
    code = "import sys; sys.modules['accelerate'] = None; from ts2net.training import TS2NetTrainer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = "the library accelerate is not installed: pip install 'ts2net[train]'"
    assert done.stderr.splitlines()[-1] == f"ImportError: {message}"
    assert one_line(ModuleNotFoundError("No module named 'accelerate'", name="accelerate")) == message
    assert missing_library(ModuleNotFoundError("No module named 'nope'", name="nope")) is None


def test_each_extra_exists(pytestconfig: pytest.Config) -> None:
    text = (pytestconfig.rootpath / "pyproject.toml").read_text()
    for library, extra in EXTRAS.items():
        assert f"\n{extra} = [" in text, library
