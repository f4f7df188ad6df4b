"""Queries as URL parameters, and queries parsed from a URL."""

import pytest

from ts2net.app.query import Query


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query("a dog & a cat?", "2024 league=women", 24),
        Query("größer 100 %", everything=True),
        Query(clip="a-b_c", filter="#1"),
        Query("rain", search_in="speech"),
    ],
)
def test_an_address_gives_back_its_query(query):
    assert Query.of_address(query.address) == query


def test_an_address_may_have_more_fields():
    assert Query.of_address("?__theme=dark&text=rain&utm_source=x&count=") == Query("rain")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("?text=" + "a" * 1001, r"The text has 1,001 characters; at most 1,000 are taken\."),
        ("?filter=" + "a" * 800_000, r"The address has 800,008 characters; at most 16,384 are taken\."),
        ("?count=0", r"The count is 0; a number from 1 to 96 is taken\."),
        ("?count=many", r"The count is 'many'; a number from 1 to 96 is taken\."),
        ("?count=" + "9" * 5000, r"The count is '99999999999999999999'; a number"),
        ("?text=rain&in=smell", r"“in” is 'smell'; picture or speech is taken\."),
        ("?clip=" + "a" * 65, r"There is no such clip\."),
    ],
)
def test_refuses_what_is_too_long_or_no_number(address, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Query.of_address(address)
