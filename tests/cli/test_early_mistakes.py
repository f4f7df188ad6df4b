"""Mistakes that need no model are told before torch is imported, which takes seconds."""

from pathlib import Path

import pytest
from filelock import FileLock

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model
from support.without_libraries import run_without

pytestmark = pytest.mark.slow


def test_mistakes_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    """An index or a folder that is missing, and an index that another process writes to."""
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
        ends = run_without(["torch"], [("ts2net.cli", list(line)) for line in expected], tmp_path)
    assert dict(zip(expected, ends, strict=True)) == {line: (1, "", message) for line, message in expected.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
