"""Translation of path patterns to regular expressions of RE2, which Arrow evaluates.

Patterns have the syntax of `fnmatch.fnmatchcase`: a star matches any characters, including slashes. A pattern that
doesn't begin with a star may begin at any folder. Paths are encoded by `columns.id_to_text`, where NUL begins an
escape sequence for one character. A star or a question mark never matches a part of an escape sequence.
"""

import sys
from collections.abc import Iterator

from .columns import escaped_half

MAX_PATTERN = 4096  # characters, as long as a path can be

_ESCAPE = r"\x00(?:u[0-9a-f]{4}|[0-9a-f]{2})"
_ANY = rf"(?:[^\x00]|{_ESCAPE})"
_IN_ESCAPES = set("0123456789abcdefu")
_NOTHING = r"[^\x00-\x{10ffff}]"
_SURROGATES = (0xD800, 0xDFFF)


def pattern_to_regex(pattern: str) -> str:
    """Translate a path pattern.

    Raises:
        ValueError: If the pattern is longer than a path can be.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"path is a pattern of {len(pattern)} characters, expected at most {MAX_PATTERN}")
    parts = list(_parts(pattern))
    begins_with_star = parts[:1] == ["*"]
    ends_with_star = parts[-1:] == ["*"]
    inner = parts[begins_with_star : len(parts) - ends_with_star]
    if begins_with_star and not inner:
        return ""
    regex = "".join(f"{_ANY}*" if part == "*" else part for part in inner)
    # Without anchors the search is several times as fast, but a match must not begin inside an escape sequence.
    if not begins_with_star:
        head = "(?:^|/)"
    elif inner[0][0] not in {*_IN_ESCAPES, "("}:
        head = ""
    else:
        head = f"^{_ANY}*"
    return head + regex + ("" if ends_with_star else "$")


def _parts(pattern: str) -> Iterator[str]:
    """Yield the expression of each character or set, and `*` for a run of stars."""
    position = 0
    previous = ""
    while position < len(pattern):
        char = pattern[position]
        position += 1
        part = _literal(char)
        if char == "*":
            part = "*"
        elif char == "?":
            part = _ANY
        elif char == "[":
            first = position + 1 if pattern[position : position + 1] == "!" else position
            end = pattern.find("]", first + 1)  # a bracket in first position is a member of the set
            if end >= 0:
                part = _one_of(pattern[first:end], negated=first > position)
                position = end + 1
        if not part == previous == "*":
            yield part
        previous = part


def _literal(char: str) -> str:
    if char == "\0" or _SURROGATES[0] <= ord(char) <= _SURROGATES[1]:
        return rf"\x00{escaped_half(ord(char))[1:]}"
    return char if char == "/" or (char.isascii() and char.isalnum()) else rf"\x{{{ord(char):x}}}"


def _one_of(characters: str, negated: bool) -> str:
    """Translate a set such as `[a-z_]`, given the characters between its brackets."""
    ranges: list[tuple[int, int]] = []
    position = 0
    while position < len(characters):
        is_range = characters[position + 1 : position + 2] == "-" and position + 2 < len(characters)
        first, last = characters[position], characters[position + 2 if is_range else position]
        ranges.append((ord(first), ord(last)))  # empty if the last comes before the first
        position += 3 if is_range else 1
    if negated:
        ranges = list(_complement(ranges))
    plain = "".join(
        rf"\x{{{first:x}}}-\x{{{last:x}}}"
        for low, high in ((1, _SURROGATES[0] - 1), (_SURROGATES[1] + 1, sys.maxunicode))
        for first, last in _overlaps(ranges, low, high)
    )
    escaped = [
        code
        for low, high in ((0, 0), _SURROGATES)
        for first, last in _overlaps(ranges, low, high)
        for code in range(first, last + 1)
    ]
    choices = [f"[{plain}]"] * bool(plain)
    if len(escaped) == 1 + _SURROGATES[1] - _SURROGATES[0] + 1:
        choices.append(_ESCAPE)
    else:
        choices += [_literal(chr(code)) for code in escaped]
    return f"(?:{'|'.join(choices)})" if choices else _NOTHING


def _complement(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of all characters outside the given ranges."""
    start = 0
    for first, last in sorted(pair for pair in ranges if pair[0] <= pair[1]):
        if first > start:
            yield start, first - 1
        start = max(start, last + 1)
    if start <= sys.maxunicode:
        yield start, sys.maxunicode


def _overlaps(ranges: list[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of ranges between `low` and `high`."""
    for first, last in ranges:
        if max(first, low) <= min(last, high):
            yield max(first, low), min(last, high)
