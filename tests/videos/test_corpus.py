"""Processor, search's stream and re-encoding agree with plain decoding from the start, on all kinds of video files."""

from pathlib import Path

import pytest

from support.corpus.checks import disagreements
from support.corpus.recipes import RECIPES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", RECIPES)
def test_all_ways_agree_with_plain_decoding(name: str, tmp_path: Path):
    assert disagreements(RECIPES[name](tmp_path)) == []
