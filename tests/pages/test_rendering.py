"""The shared template environment, and the data files in the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import ts2net
from support.html_pages import HOSTILE, Page, content
from ts2net.pages.rendering import data_uri, printable, render, render_page


def test_html_is_escaped_and_other_text_is_not() -> None:
    assert Page(render("app/message.html", kind="error", text=HOSTILE)).text.strip() == HOSTILE
    assert '"<b>&"' in render("space/README.md.jinja", gradio='"<b>&"', model=None)


def test_a_value_that_a_template_misses_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'kind' is undefined"):
        render("app/message.html", text="")


def test_a_page_allows_what_it_needs_and_nothing_else() -> None:
    page = Page(render_page("search.html", media="file:", title="Found", answers=[]))
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; img-src data:; media-src file:; style-src 'unsafe-inline'"
    assert not page.all("script")


def test_a_file_becomes_an_address() -> None:
    assert content(data_uri(b"\x00\xff", "image/png"), "image/png") == b"\x00\xff"


def test_a_name_that_is_no_utf_8_can_be_shown() -> None:
    assert printable("half \udcff ä") == "half \\udcff ä"


@pytest.mark.slow
def test_the_wheel_has_every_data_file(tmp_path: Path) -> None:
    """The wheel contains templates, styles, scripts, recipes, the pictures of moving things and the small CLIP."""
    pytest.importorskip("hatchling")
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = Path(ts2net.__file__).parent
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {f"ts2net/{path.relative_to(package).as_posix()}" for path in files} <= names
    assert {"model.safetensors", "sheet.png", "NOTICE", "base.html"} <= {path.name for path in files}
