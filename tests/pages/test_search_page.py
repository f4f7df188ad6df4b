"""The page of search results: correct contents, and safe with any file name or text."""

from support.html_pages import HOSTILE, Page, content
from ts2net.pages.search import Answer, render_search_page
from ts2net.search.hits import Hit


def hit(video: str, thumbnail: bytes = b"jpeg") -> Hit:
    return Hit(video, 72.0, 84.0, 75.25, 31.456, {"title": HOSTILE}, "0123456789abcdef-000006", thumbnail)


def test_a_moment_plays_from_its_start(tmp_path):
    """The video's address has the moment as a fragment and an escaped file name, and the thumbnail is its poster."""
    film = tmp_path / 'my #1 film & 100 % "good".mp4'
    film.write_bytes(b"film")
    page = Page(render_search_page("Moments", [Answer("a dog", [hit(str(film), b"\xff\xd8 picture")])]))
    (video,) = page.all("video")
    assert video["src"] == f"{film.as_uri()}#t=72.000,84.000"
    assert "my%20%231%20film" in str(video["src"])
    assert content(video["poster"], "image/jpeg") == b"\xff\xd8 picture"
    assert "1:12.0 – 1:24.0" in page.text
    assert "best at 1:15.2" in page.text
    assert "score 31.46" in page.text


def test_a_video_without_a_file_shows_its_picture():
    """A member of a tar file, or a deleted file, is shown by its thumbnail."""
    page = Page(render_search_page("Moments", [Answer("a dog", [hit("/data/train-00000.tar#clip7")])]))
    assert not page.all("video")
    assert len(page.all("img")) == 1


def test_hostile_names_and_texts_stay_text():
    page = Page(render_search_page(HOSTILE, [Answer(HOSTILE, [hit(f"/{HOSTILE}"), hit("/half a \udcff character")])]))
    assert not page.all("script")
    assert len(page.all("img")) == 2
    assert page.text.count(HOSTILE) == 4  # the title, the heading, the text, the name
    assert "half a \\udcff character" in page.text


def test_the_page_may_load_nothing_but_its_videos():
    page = Page(render_search_page("Moments", [Answer("a dog", [])]))
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; img-src data:; media-src file:; style-src 'unsafe-inline'"
    assert "Nothing was found." in page.text
