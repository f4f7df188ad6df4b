"""The first video files drawn from seeds, in a bounded time: the same checks as for the corpus."""

from itertools import islice

import pytest

from support.fuzz_videos import run

pytestmark = pytest.mark.slow

SECONDS = 20
FIRST_SEED = 1
FILES = 100  # the same ones on a fast machine; `python -m support.fuzz_videos` draws on


def test_all_ways_agree_with_plain_decoding_of_drawn_files():
    checked = 0
    for drawn, found in islice(run(FIRST_SEED, SECONDS), FILES):
        assert not found, f"{drawn}: {found}"
        checked += found is not None
    assert checked >= 5
