"""Parsing of `NAME=VALUE` command-line arguments."""

import json
from collections.abc import Iterable
from typing import Any


def parse_named_values(arguments: Iterable[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """Parse `NAME=VALUE` arguments. A value may contain further equals signs.

    Args:
        arguments: The arguments, each a string.
        form: The expected form to show in errors, such as `FIELD=VALUE`.

    Raises:
        ValueError: If an argument has another form, or two arguments have different values for one name.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise ValueError(f"expected {form}, got {argument!r}")
        if values.setdefault(name, value) != value:
            raise ValueError(f"{name} can't be both {values[name]!r} and {value!r}")
    return values


def json_or_text(value: str) -> Any:
    """Parse a value as JSON, such as `12`, `true` or `[8, 9]`. Return the text itself if it is not JSON."""
    try:
        return json.loads(value)
    except ValueError:
        return value
