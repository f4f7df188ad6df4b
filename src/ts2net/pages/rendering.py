"""The one template environment, with what all templates share.

Texts and names of videos may be anyone's, so whatever a template of HTML inserts is escaped. Templates whose names end
in `.jinja` make other kinds of text, which is inserted as it is.
"""

import base64
import hashlib
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ..clock import clock

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Its path in the folder of templates, such as `"app/hits.html"`.
        values: What it inserts.
    """
    return _environment().get_template(template).render(values)


def render_page(template: str, *, media: str, script: str | None = None, **values: Any) -> str:
    """Fill a template that is a whole page in one file: it needs no other file but videos.

    The page's content security policy allows its own script and style, pictures in the page, and videos from one kind
    of address. So a text that slipped through the escaping could load and run nothing.

    Args:
        template: It extends `base.html`.
        media: Where videos may come from: `"data:"` or `"file:"`.
        script: Name of the page's script in the folder of templates.
        values: What else it inserts.
    """
    policy = f"default-src 'none'; img-src data:; media-src {media}; style-src 'unsafe-inline'"
    code = None
    if script is not None:
        code = read_template(script)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    return render(template, policy=policy, script=None if code is None else Markup(code), **values)


def read_template(name: str) -> str:
    """The text of a style or script in the folder of templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def data_uri(content: bytes, media_type: str = "image/jpeg") -> str:
    """An address that holds a file's content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def printable(text: str) -> str:
    """A text with `\\udcff` for a byte of a file name that is no UTF-8, which no page can hold."""
    return text.encode(errors="backslashreplace").decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=(), disabled_extensions=("jinja",), default=True),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "clock_seconds": partial(clock, tenths=False),
        "data_uri": data_uri,
        "printable": printable,
    }
    environment.globals |= {"style": lambda name: Markup(read_template(name))}
    return environment
