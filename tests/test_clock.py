"""Formatting and parsing of times such as `1:02:03.5`."""

import random

import pytest

from ts2net.clock import clock, parse_clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (9.96, "0:09.9"),
        (75.25, "1:15.2"),
        (3600, "1:00:00.0"),
        (7384.04, "2:03:04.0"),
        (0.1 + 0.2, "0:00.3"),
        (0.7999999999999999, "0:00.8"),
    ],
)
def test_a_time_is_cut_off_to_tenths(seconds: float, text: str) -> None:
    assert clock(seconds) == text
    assert clock(seconds, tenths=False) == text[:-2]


def test_what_is_written_is_read_again() -> None:
    numbers = random.Random(0)
    for tenths in [numbers.randrange(10**6) for _ in range(1000)]:
        assert parse_clock(clock(tenths / 10)) == pytest.approx(tenths / 10)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1208", 1208),
        ("75.25", 75.25),
        (".5", 0.5),
        ("20:08", 1208),
        ("90:00", 5400),
        ("1:02:03.5", 3723.5),
        (" 7 ", 7),
    ],
)
def test_a_time_is_typed_in_seconds_or_with_colons(text: str, seconds: float) -> None:
    assert parse_clock(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-3", "+3", "nan", "1e3", "1:60", "1:60:00", "1:2:3:4", "1.5:00", "20:", "５", "1:05,5"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"got '"):
        parse_clock(text)
