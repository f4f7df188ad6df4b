"""Path patterns match the same names in Arrow as with `fnmatch`."""

import fnmatch
import random

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ts2net.search.columns import id_to_text
from ts2net.search.filters import MAX_PATTERN, pattern_to_regex
from ts2net.search.options import SearchOptions

LETTERS = ["a", "f", "0", "u", "/", "/", ".", "-", "\n", "'", "\\", "%", "ü", "雨", "\udcff", "\udc80", "\ud800", "\0"]
PARTS = [
    *LETTERS,
    "*",
    "*",
    "?",
    "[",
    "]",
    "[a-f]",
    "[!a]",
    "[]-]",
    "[!]]",
    "[z-a]",
    "[!z-a]",
    "[a\udcff-]",
    "[--0]",
    "**",
]


def matches(name: str, pattern: str) -> bool:
    """Reference for matching a pattern, which may start at any folder."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")


class Names:
    """Names in their stored form, matched by Arrow and by the reference."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.texts = pa.array([id_to_text(name) for name in names])

    def matching(self, pattern: str) -> list[str]:
        matches = pc.match_substring_regex(self.texts, pattern_to_regex(pattern)).to_pylist()
        return [name for name, is_match in zip(self.names, matches, strict=True) if is_match]

    def expected(self, pattern: str) -> list[str]:
        return [name for name in self.names if matches(name, pattern)]


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "**",
        "/clips/*",
        "clips/1?.mp4",
        "*/holidays/*",
        "*f",
        "*[!f]",
        "?",
        "*.MP4",
        "[",
        "[!",
        "[]",
        "*'*",
        "ff",
    ],
)
def test_a_pattern_matches_what_it_matches_in_python(pattern):
    names = ["/clips/10.mp4", "/a/clips/1x.mp4", "/my holidays/a.mp4", "/x/holidays/it's\n.MP4", "/b\udcff", "[", "[!"]
    table = Names(names)
    assert table.matching(pattern) == table.expected(pattern)


@pytest.mark.slow
def test_random_patterns_match_what_they_match_in_python():
    """Random patterns match as in Python, with odd bytes, quotes, line ends, sets and special characters."""
    random_ = random.Random(0)
    names = ["".join(random_.choices(LETTERS, k=random_.randint(0, 5))) for _ in range(400)]
    table = Names(names)
    num_matches = 0
    for _ in range(400):
        pattern = "".join(random_.choices(PARTS, k=random_.randint(0, 5)))
        expected = table.expected(pattern)
        assert table.matching(pattern) == expected, repr(pattern)
        num_matches += len(expected)
    assert num_matches > 2000


def test_a_pattern_of_the_longest_path_is_evaluated_and_a_longer_one_refused():
    names = Names(["/" + "ü" * (MAX_PATTERN - 1), "/x"])
    assert len(names.matching("?" * MAX_PATTERN)) == 1
    with pytest.raises(ValueError, match="path must be a pattern of at most 4096 characters"):
        SearchOptions(path="x" * (MAX_PATTERN + 1))
