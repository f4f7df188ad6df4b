"""Mistakes that need no model are told before torch is imported, which takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model

pytestmark = pytest.mark.slow

CODE = """
import sys
from ts2net.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "torch was imported"
"""


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", CODE, *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "none", "rain"],
        ["info", "none"],
        ["app", "none", "--port", "0"],
        ["explain", "--index", "none", "--window", "w", "--text", "rain", "--out", "why.png"],
    ],
)
def test_a_missing_index(tmp_path: Path, arguments: list[str]) -> None:
    message = "error: none: there is no index; `ts2net index VIDEOS --out none` makes one\n"
    assert run(tmp_path, *arguments) == (1, message)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder(tmp_path: Path) -> None:
    message = "error: nowhere: no such file or folder\n"
    assert run(tmp_path, "index", "nowhere", "--model", "m", "--out", "index") == (1, message)


def test_another_writer(tmp_path: Path) -> None:
    make_index(tmp_path / "index", tiny_model(), [random_video("/a.mp4", 1)])
    with FileLock(tmp_path / "index" / ".lock"):
        code, said = run(tmp_path, "index", "--out", "index")
        assert (code, said) == (1, "error: index: another process is writing to this index\n")
        code, said = run(tmp_path, "remove", "index", "/a.mp4")
        assert (code, said) == (1, "error: index: another process is writing to this index\n")
