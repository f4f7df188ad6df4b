"""`NAME=VALUE` arguments, for every command that takes some."""

import json
from collections.abc import Iterable
from typing import Any


def parse_named_values(arguments: Iterable[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """Read `NAME=VALUE` arguments. A value may contain further equals signs.

    Args:
        arguments: One string each.
        form: What a user is told to type, such as `FIELD=VALUE`.

    Raises:
        ValueError: If one has another form, or two give a name different values.
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
    """Read a value that is JSON, such as `12`, `true` or `[8, 9]`, and otherwise a text."""
    try:
        return json.loads(value)
    except ValueError:
        return value
