"""Parsing of `NAME=VALUE` arguments."""

import pytest

from ts2net.named_values import json_or_text, parse_named_values


def test_values_are_texts_with_all_that_follows_the_first_equals_sign() -> None:
    arguments = ["kind=dog", "formula=a=b", "empty=", "kind=dog"]
    assert parse_named_values(arguments) == {"kind": "dog", "formula": "a=b", "empty": ""}


@pytest.mark.parametrize("argument", ["kind", "=dog", ""])
def test_another_form_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"^expected FIELD=VALUE, got {argument!r}$"):
        parse_named_values(["a=b", argument], "FIELD=VALUE")


def test_a_name_has_one_value() -> None:
    with pytest.raises(ValueError, match="^kind can't be both 'dog' and 'cat'$"):
        parse_named_values(["kind=dog", "kind=cat"])


def test_json_is_read_and_anything_else_is_a_text() -> None:
    values = ["12", "0.5", "true", "null", "[8, 9]", "token", "", "12 frames"]
    assert [json_or_text(value) for value in values] == [12, 0.5, True, None, [8, 9], "token", "", "12 frames"]
