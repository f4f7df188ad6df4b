"""The checks of the corpus on randomly drawn video files, for a limited time."""

import math

import pytest

from support.fuzz_videos import run

pytestmark = pytest.mark.slow

SECONDS = 12  # `python -m support.fuzz_videos` runs longer
FIRST_SEED = 1
# Damaged Motion JPEG (3), H.264 without a frame that others refer to (2) or with a damaged one (3), a stretch of a
# broadcast that can't be decoded, damaged FFV1, two frames at one time, and damage after which times go back.
MENDED = (50320, 60184, 60515, 50773, 61457, 102505, 105021, 106194, 51001, 62006, 61361, 201302)


@pytest.mark.parametrize("seed", MENDED)
def test_what_was_mended_stays_so(seed: int):
    ((drawn, complaints),) = run(seed, math.inf, count=1)
    assert complaints == [], f"{drawn}: {complaints}"


def test_all_ways_agree_with_plain_decoding_of_drawn_files():
    checked = 0
    for drawn, complaints in run(FIRST_SEED, SECONDS):
        assert not complaints, f"{drawn}: {complaints}"
        checked += complaints is not None
    assert checked >= 5
