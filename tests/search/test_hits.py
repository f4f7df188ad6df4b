"""Display of hits and indexes: one line of text, or HTML with pictures and escaped names in a notebook."""

from pathlib import Path

import pytest

from support.search_indexes import make_index, random_video
from support.tiny_models import tiny_model
from ts2net.search.hits import Hit, Hits

HOSTILE = "/clips/<script>alert(1)</script>\udcff.mp4"


@pytest.fixture
def hit() -> Hit:
    return Hit(HOSTILE, 61.0, 65.0, 62.5, 17.25, {}, "w-0", b"\xff\xd8 a JPEG")


def test_a_line_has_video_times_and_score_and_no_picture(hit: Hit):
    assert repr(hit).endswith(".mp4', 1:01.0 to 1:05.0, score=17.25)")
    assert "JPEG" not in repr([hit])


def test_a_notebook_shows_the_picture_and_escapes_the_name(hit: Hit):
    page = Hits([hit, hit])._repr_html_()
    assert page.count("data:image/jpeg;base64,/9ggYSBKUEVH") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\udcff.mp4" in page
    assert "<script" not in page
    assert hit._repr_html_().count("<img") == 1
    page.encode()
    assert Hits()._repr_html_() == "<p>Nothing was found.</p>"


def test_an_index_says_where_it_is_and_what_it_holds(tmp_path: Path):
    videos = [random_video("/a.mp4", 0, metadata={"<b>": "x"}), random_video("/b.mp4", 1)]
    index = make_index(tmp_path / "index", tiny_model(), videos)
    assert repr(index) == f"VideoIndex({str(tmp_path / 'index')!r}, model='tiny')"
    page = index._repr_html_()
    assert "<tr><th>videos</th><td>2</td></tr>" in page
    assert "10, of 4 s every 2 s" in page
    assert "&lt;b&gt;" in page
