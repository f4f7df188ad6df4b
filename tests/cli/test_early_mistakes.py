"""Errors that don't depend on a model are reported before torch is imported, which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model

pytestmark = pytest.mark.slow

CODE = """
import contextlib, io, json, sys
from ts2net.cli import main
ends = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(line)
        except SystemExit as end:
            ends.append([end.code, err.getvalue()])
    assert "torch" not in sys.modules, f"{line} has imported torch"
print(json.dumps(ends))
"""


def test_mistakes_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    """A missing index or folder, and an index locked by another process, are reported without importing torch."""
    missing = "error: none: there is no index; `ts2net index VIDEOS --out none` makes one\n"
    busy = "error: index: another process is writing to this index\n"
    expected = {
        ("search", "none", "rain"): missing,
        ("info", "none"): missing,
        ("app", "none", "--port", "0"): missing,
        ("explain", "--index", "none", "--window", "w", "--text", "rain", "--out", "why.png"): missing,
        ("index", "nowhere", "--model", "m", "--out", "new"): "error: nowhere: no such file or folder\n",
        ("index", "--out", "index"): busy,
        ("remove", "index", "/a.mp4"): busy,
    }
    make_index(tmp_path / "index", tiny_model(), [random_video("/a.mp4", 1)])
    with FileLock(tmp_path / "index" / ".lock"):
        command = [sys.executable, "-c", CODE, json.dumps(list(expected))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    actual = dict(zip(expected, json.loads(done.stdout), strict=True))
    assert actual == {line: [1, message] for line, message in expected.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
