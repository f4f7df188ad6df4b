"""Commands whose extra is not installed name the extra to install, in one line."""

from pathlib import Path

import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model
from support.without_libraries import run_commands_without, run_without

pytestmark = pytest.mark.slow

TRAINING = ("ts2net.training.__main__", ["--recipe", "msrvtt"])
DEMO = ("ts2net.cli", ["demo"])
EVALUATE = ("ts2net.cli", ["evaluate", "model", "msrvtt", "data"])
SERVED_DEMO = ("ts2net.cli", ["demo", "--serve"])
INDEX = ("ts2net.cli", ["index", "videos", "--model", "model", "--out", "new", "--engine", "ray"])
APP = ("ts2net.cli", ["app", "index", "--port", "0"])


@pytest.mark.parametrize(
    ("library", "extra", "commands"),
    [
        ("accelerate", "train", [DEMO, EVALUATE, TRAINING]),
        ("datasets", "train", [DEMO, EVALUATE, TRAINING]),
        ("yaml", "train", [TRAINING]),
        ("uvicorn", "app", [SERVED_DEMO]),
        ("gradio", "app", [SERVED_DEMO, APP]),
        ("lancedb", "search", [DEMO, INDEX]),
        ("ray", "ray", [INDEX]),
    ],
)
def test_the_extra_is_named(library: str, extra: str, commands: list[tuple[str, list[str]]], tmp_path: Path) -> None:
    """The error comes before the command creates any file."""
    make_index(tmp_path / "index", tiny_model(), [random_video("/a.mp4", 1)])  # needed by the page
    ends = run_commands_without([library], commands, tmp_path)
    message = f"error: the library {library} is not installed: pip install 'ts2net[{extra}]'\n"
    assert ends == [(1, "", message)] * len(commands)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize(("library", "extra"), [("lancedb", "search"), ("ray", "ray")])
def test_the_extra_is_named_in_python_too(library: str, extra: str, tmp_path: Path) -> None:
    code = "from ts2net.search import index_videos; index_videos(sys.argv[1], None, 'index', engine='ray')"
    last = run_without([library], code, tmp_path).err.splitlines()[-1]
    assert last.endswith(f"the library {library} is not installed: pip install 'ts2net[{extra}]'")
