"""Video files drawn from seeds, in a bounded time: the same checks as for the corpus."""

import pytest

from support.fuzz_videos import run

pytestmark = pytest.mark.slow

SECONDS = 12  # `python -m support.fuzz_videos` draws on
FIRST_SEED = 1


def test_all_ways_agree_with_plain_decoding_of_drawn_files():
    checked = 0
    for drawn, found in run(FIRST_SEED, SECONDS):
        assert not found, f"{drawn}: {found}"
        checked += found is not None
    assert checked >= 5
