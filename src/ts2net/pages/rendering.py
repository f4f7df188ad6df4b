"""Template environment of all pages, and functions for their templates.

Texts and names of videos are untrusted, so HTML templates escape all values. Templates whose names end in `.jinja`
create other kinds of text and don't escape values.
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
        template: Path in the folder of templates, such as `"app/hits.html"`.
        values: Values that the template inserts.
    """
    return _environment().get_template(template).render(values)


def render_page(template: str, *, media: str, script: str | None = None, **values: Any) -> str:
    """Fill the template of a self-contained page, whose only other files are videos.

    The content security policy allows only the script and styles of the page, embedded pictures, and videos from one
    kind of address. So even a text that was not escaped by mistake could not load or run anything else.

    Args:
        template: Path of the template, which extends `base.html`.
        media: Allowed source of videos: `"data:"` or `"file:"`.
        script: Name of the page's script in the folder of templates.
        values: Further values that the template inserts.
    """
    policy = f"default-src 'none'; img-src data:; media-src {media}; style-src 'unsafe-inline'"
    code = None
    if script is not None:
        code = read_template(script)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    return render(template, policy=policy, script=None if code is None else Markup(code), **values)


def read_template(name: str) -> str:
    """Return the text of a style sheet or script in the folder of templates."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def data_uri(content: bytes, media_type: str = "image/jpeg") -> str:
    """Return a data URI with the content of a file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def printable(text: str) -> str:
    """Escape bytes of file names that are not UTF-8, as `\\udcff`, because a page can't contain them."""
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
