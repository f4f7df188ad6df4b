"""Parser of HTML pages, and text that tries to break out of them."""

import base64
from html.parser import HTMLParser
from typing import NamedTuple

HOSTILE = "\"><script>alert('1')</script><img src=x onerror=alert(2)> {{ 7 * 7 }} & 'ö'"


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str | None]


class Page(HTMLParser):
    """A page's elements in order, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.text = ""
        self._contents: dict[int, str] = {}  # text after a start tag, by the element's number from 1
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.elements:
            self._contents[len(self.elements)] = self._contents.get(len(self.elements), "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [element.attributes for element in self.elements if element.tag == tag]

    def content(self, tag: str, element_id: str) -> str:
        """Return the text directly in an element."""
        number = next(
            index for index, each in enumerate(self.elements, 1) if each == (tag, each.attributes | {"id": element_id})
        )
        return self._contents[number]


def content(uri: str | None, media_type: str) -> bytes:
    head, _, encoded = str(uri).partition(",")
    assert head == f"data:{media_type};base64"
    return base64.b64decode(encoded, validate=True)
