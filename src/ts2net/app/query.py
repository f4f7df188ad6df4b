"""Search query, parsed from the fields of the page, the address of the page or the JSON interface.

The address contains the whole query, so that reloading, going back, bookmarks and links lead to the same result.
"""

from dataclasses import dataclass, replace
from typing import cast, get_args
from urllib.parse import parse_qsl, urlencode

from ..search.options import FoundIn

MAX_TEXT = 1000  # characters; the model reads fewer
MAX_FILTER = 200
MAX_COUNT = 96
DEFAULT_COUNT = 12
_MAX_CLIP = 64
_MAX_ADDRESS = 16_384  # characters after the question mark
_FIELDS = ("text", "filter", "count", "clip", "all", "in")


@dataclass(frozen=True)
class Query:
    """A search.

    Args:
        text: Text to search for. Empty to search for a clip or to list videos.
        filter: Words that must all occur in the path or the metadata of a video; see [`catalogue.Catalogue.matching`].
        count: Maximum number of moments.
        clip: Name of an uploaded clip; see [`library.Library.remember_clip`].
        everything: Whether to include moments that match no better than chance.
        search_in: Search only pictures or only speech; `None` is both. Clips are always searched for in pictures.

    Raises:
        ValueError: If a value is too long or out of range, with a message for the visitor.
    """

    text: str = ""
    filter: str = ""
    count: int = DEFAULT_COUNT
    clip: str = ""
    everything: bool = False
    search_in: FoundIn | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("text", self.text, MAX_TEXT), ("filter", self.filter, MAX_FILTER)):
            if len(value) > most:
                raise ValueError(f"The {name} has {len(value):,} characters; at most {most:,} are taken.")
        if len(self.clip) > _MAX_CLIP:
            raise ValueError("There is no such clip.")
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"The count is {self.count}; a number from 1 to {MAX_COUNT} is taken.")
        if self.search_in is not None and self.search_in not in get_args(FoundIn):
            raise ValueError(f"“in” is {self.search_in[:20]!r}; picture or speech is taken.")

    @classmethod
    def of_fields(cls, text: str | None, filter: str | None, search_in: str | None = None) -> "Query":
        """Create a query from the fields of the page, which Gradio passes as `None` when they are empty."""
        return cls((text or "").strip(), (filter or "").strip(), search_in=cast(FoundIn | None, search_in or None))

    @classmethod
    def of_address(cls, address: str) -> "Query":
        """Create a query from the part of an address after the path, such as `?text=a+dog&filter=2024`.

        Unknown fields are ignored, because some sites add fields to links.

        Raises:
            ValueError: Same as in the class, or if the count is no number.
        """
        if len(address) > _MAX_ADDRESS:
            raise ValueError(f"The address has {len(address):,} characters; at most {_MAX_ADDRESS:,} are taken.")
        values = {name: value.strip() for name, value in parse_qsl(address.removeprefix("?")) if name in _FIELDS}
        count = values.get("count", str(DEFAULT_COUNT))
        if not (count.isascii() and count.isdigit() and len(count) <= 4):
            raise ValueError(f"The count is {count[:20]!r}; a number from 1 to {MAX_COUNT} is taken.")
        fields = cls.of_fields(values.get("text"), values.get("filter"), values.get("in"))
        return replace(fields, count=int(count), clip=values.get("clip", ""), everything=values.get("all") == "1")

    @property
    def address(self) -> str:
        """The part of the address after the path; empty for the start of the page."""
        values = {
            "text": self.text,
            "clip": self.clip,
            "filter": self.filter,
            "count": "" if self.count == DEFAULT_COUNT else str(self.count),
            "all": "1" if self.everything else "",
            "in": self.search_in or "",
        }
        fields = urlencode({name: value for name, value in values.items() if value}, errors="replace")
        return f"?{fields}" if fields else ""
