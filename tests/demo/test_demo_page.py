"""The page of search results: whole, safe, and true to what it is given."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.html_pages import HOSTILE, Page, content
from ts2net.demo.answers import Clip, FoundClip, Query
from ts2net.demo.page import render_demo_page
from ts2net.explanation import Explanation, draw_frame, drawn_frames


def explanation(text: str) -> Explanation:
    return Explanation(
        texts=(text,),
        scores=(12.345,),
        frames=np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8),
        seconds=(0.0, 0.5, 1.04),
        weights=np.array([[0.5, 0.3, 0.2]]),
        selected_tokens=np.array([[1], [2], [16]]),
        patch_size=8,
    )


def found(name: str, video: bytes, caption: str) -> FoundClip:
    seen = explanation(caption)
    return FoundClip(Clip(name, Path(name), caption), video, seen.scores[0], drawn_frames(seen, format="PNG"))


@pytest.fixture(scope="module")
def html() -> str:
    known = Query("a dog", [found("one", b"mp4 one", "a dog")], rank=1)
    other = Query(HOSTILE, [found(HOSTILE, b"mp4 two", HOSTILE), found("3", b"mp4 3", "a cat")])
    return render_demo_page(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], [known, other], num_clips=200)


def test_the_page_has_every_clip_and_frame(html: str) -> None:
    """The videos as they are, and of each explanation its frames as they are drawn, with times and weights."""
    page = Page(html)
    assert [content(video["src"], "video/mp4") for video in page.all("video")] == [b"mp4 one", b"mp4 two", b"mp4 3"]
    images = [content(image["src"], "image/png") for image in page.all("img")]
    for place, image in enumerate(images):
        drawn = draw_frame(explanation(""), place % 3)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(image))), np.asarray(drawn))
    assert len(images) == 9
    assert re.findall(r"0:\d\d\.\d \d+ %", page.text) == 3 * ["0:00.0 50 %", "0:00.5 30 %", "0:01.0 20 %"]
    assert page.text.count("12.35") + page.text.count("12.34") == 3
    assert "comes 1st of\n200" in page.text


def test_nothing_in_it_is_taken_for_code(html: str) -> None:
    """Titles, facts, queries, captions and names may be anyone's: they are read as they are, and do nothing."""
    page = Page(html)
    assert len(page.all("script")) == 1
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "script", "body", "header", "main", "section", "article", "div"),
        *("h1", "h2", "p", "b", "span", "dl", "dt", "dd", "ol", "li", "img", "button", "video"),
    }
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) == 8  # title twice, summary, a fact's two sides, a query, a name, a caption
    assert page.all("button")[1]["aria-label"] == f"play or stop the clip {HOSTILE}"


def test_it_needs_nothing_else_and_its_policy_says_so(html: str) -> None:
    """No address in it but data, and no script but its own may run."""
    page = Page(html)
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name == "src"]
    assert all(str(address).startswith("data:") for address in addresses)
    assert not page.all("link")
    assert "url(" not in html
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert str(policy).startswith("default-src 'none'; img-src data:; media-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]{43}='$", str(policy))


@pytest.mark.parametrize(
    ("rank", "words"),
    [(2, "2nd"), (3, "3rd"), (11, "11th"), (12, "12th"), (21, "21st"), (113, "113th"), (200, "200th")],
)
def test_ranks_are_said_in_words(rank: int, words: str) -> None:
    assert f"comes {words} of\n200" in render_demo_page("", "", [], [Query("a dog", [], rank)], num_clips=200)


def test_a_query_of_ones_own_has_no_right_answer() -> None:
    html = render_demo_page("", "", [], [Query("a dog", [], None)], num_clips=200)
    assert "no clip has just this caption" in html
