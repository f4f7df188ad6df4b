"""The web app in a real browser, its server and JSON API, and the limits on uploads and access."""

import asyncio
import contextlib
import errno
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Error, expect, sync_playwright

from support.forked_python import ForkedPython
from support.search_indexes import leave_nothing_out
from support.tiny_models import tiny_config, tiny_model, tiny_processor
from support.video_files import write_video
from ts2net.app import UploadLimits, create_app, write_space
from ts2net.app.decoding import clip_inputs
from ts2net.app.library import Library
from ts2net.app.query import Query
from ts2net.app.ranges import head_response
from ts2net.app.uploads import UploadError
from ts2net.cli import main
from ts2net.cli.serve import _names
from ts2net.search import VideoIndex, WindowSettings, index_videos
from ts2net.search.store import Store

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=document.title='hacked'>${document.title='hacked'}{{x}}.mp4"
LIMITS = UploadLimits(megabytes=2, seconds=30)
expect.set_options(timeout=60_000)  # the first upload waits for a process that has imported PyTorch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, videos with ordinary and hostile names, one of them in an archive, and their index."""
    folder = tmp_path_factory.mktemp("app")
    model = folder / "model"
    tiny_model().save_pretrained(model)
    tiny_processor(tiny_config()).save_pretrained(model)
    videos = folder / "videos"
    videos.mkdir()
    write_video(videos / "long.mp4", frames=240, fps=12, size=(96, 64))  # 20 seconds
    write_video(videos / HOSTILE, frames=48, fps=12)
    write_video(folder / "clip.mp4", frames=36, fps=12)
    with tarfile.open(videos / "train-00000.tar", "w") as tar:
        tar.add(folder / "clip.mp4", "clip.mp4")
    (folder / "secret.mp4").write_bytes(b"nobody's")
    (folder / "labels.csv.mp4").write_bytes(b"no video")
    (folder / "labels.csv").write_text("file,caption\nlong.mp4,<script>document.title='hacked'</script>\n")
    index_videos(
        videos,
        model,
        folder / "index",
        settings=WindowSettings(6, 3, 1),
        metadata=folder / "labels.csv",
        workers=0,
        device="cpu",
    )
    leave_nothing_out(folder / "index")
    return folder


@contextlib.contextmanager
def serving(app):
    """Serve an application on a free port and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(folder):
    app = create_app(folder / "index", device="cpu", limits=LIMITS, hosts=["127.0.0.1", "localhost"])
    with serving(app) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium here: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The opened page. A request to another server or an error in a script fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    elsewhere, errors = [], []
    page.on("request", lambda request: elsewhere.append(request.url) if foreign(request.url, address) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    assert page.title().endswith("Search your videos")  # otherwise, a hostile name was executed
    assert "hacked" not in page.title()
    assert not elsewhere
    assert not errors
    page.close()


def foreign(url, address):
    return not url.startswith((f"{address}/", "data:", "blob:"))


def text_box(page, name):
    return page.locator(f"#{name}").locator("input, textarea")


def search(page, text):
    text_box(page, "text").fill(text)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".ts-summary", has_text=text)).to_contain_text(f"“{text}”")


def choose(page, tab, file):
    """Open a tab and choose a file in it, given by its path or as a name with content."""
    page.get_by_role("tab", name=tab).click()
    panel = page.locator("#clip" if tab == "By a clip" else "#add")
    expect(panel).to_be_visible()
    panel.locator("input[type=file]").set_input_files(file)
    return panel


def upload(page, tab, file):
    panel = choose(page, tab, file)
    expect(panel.get_by_label("Clear").first).to_be_visible()  # the upload has finished
    return panel


# ---------------------------------------------------------------------------------------------------------------------
# In the browser


def test_searches_and_escapes_what_is_not_ours(page):
    """Names, captions and queries are untrusted: they are shown as text and never executed."""
    search(page, "a dog <b>catches</b> ${1}")
    names = page.locator(".ts-card strong").all_inner_texts()
    assert set(names) == {"long.mp4", HOSTILE, "clip"}
    expect(page.locator(".ts-card", has_text="long.mp4").first).to_contain_text(
        "caption: <script>document.title='hacked'</script>"
    )
    assert page.locator(".ts-card script, .ts-card img").count() == 0


def test_plays_from_the_moment(page):
    """A hit plays from the start of its moment, and a button jumps to its best second."""
    search(page, "rain")
    cards = page.locator(".ts-card")
    spans = [
        re.search(r"#t=([\d.]+),([\d.]+)", url)
        for url in cards.locator("video").evaluate_all("all => all.map(video => video.src)")
    ]
    latest = max(range(len(spans)), key=lambda index: float(spans[index][1]))
    start, end = float(spans[latest][1]), float(spans[latest][2])
    assert start > 0
    cards.nth(latest).locator(".ts-play").click()
    video = cards.nth(latest).locator("video").element_handle()
    page.wait_for_function("video => !video.paused && video.readyState >= 2 && video.currentTime > 0", arg=video)
    assert start <= video.evaluate("video => video.currentTime") < end

    best = cards.nth(latest).locator(".ts-best")
    second = float(best.get_attribute("data-second"))
    video.evaluate("video => video.pause()")
    best.click()
    page.wait_for_function(
        "([video, second]) => Math.abs(video.currentTime - second) < 1 && !video.paused", arg=[video, second]
    )


def test_explains_a_hit(page):
    """The explanation shows the frames of the window with weights that add up to 100 %."""
    search(page, "rain")
    page.locator(".ts-why").first.click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Why “rain” finds")
    weights = [float(text.removesuffix(" %")) for text in dialog.locator("li b").all_inner_texts()]
    assert 2 <= len(weights) <= 6
    assert sum(weights) == pytest.approx(100, abs=len(weights) / 2)
    assert all(dialog.locator("img").evaluate_all("all => all.map(image => image.naturalWidth > 0)"))
    dialog.get_by_role("button", name="Close").click()
    page.locator(".ts-why").first.click()  # a second explanation of the same hit
    expect(page.locator("dialog[open]")).to_be_visible()


def test_searches_by_an_uploaded_clip(page, folder):
    panel = upload(page, "By a clip", folder / "clip.mp4")
    panel.get_by_role("button", name="Search with this clip").click()
    expect(page.locator(".ts-summary")).to_contain_text("the clip clip.mp4")
    assert page.locator(".ts-card strong").first.inner_text() == "clip"
    assert "clip=" in page.url
    page.locator(".ts-why").first.click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("Why the clip clip.mp4 finds clip")
    assert sum(float(text.removesuffix(" %")) for text in dialog.locator("li b").all_inner_texts()) > 95
    page.reload()  # the server still has the clip
    expect(page.locator(".ts-summary")).to_contain_text("the clip clip.mp4")


def test_says_what_is_wrong_with_an_upload(page, folder, tmp_path):
    """A broken, too long or missing upload gets one sentence, without paths of the server or a stack trace."""
    (tmp_path / "broken<b>.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    write_video(tmp_path / "too-long.mp4", frames=62, fps=2)
    for name, sentence in {
        "broken<b>.mp4": r"broken.*\.mp4 can't be read as a video: .+\.",
        "too-long.mp4": r"too-long\.mp4 is too long: 31 seconds, and at most 30 seconds are taken\.",
    }.items():
        page.reload()
        upload(page, "By a clip", tmp_path / name).get_by_role("button", name="Search with this clip").click()
        message = page.get_by_role("alert").filter(has_text=name[:6])
        expect(message).to_have_text(re.compile(sentence))
        assert not re.search(r"/tmp|Traceback|gradio", message.inner_text())
    page.reload()
    page.get_by_role("tab", name="By a clip").click()
    page.get_by_role("button", name="Search with this clip").click()
    expect(page.get_by_role("alert").filter(has_text="Choose")).to_have_text("Choose a video file first.")


def test_a_search_is_not_replaced_by_what_the_page_opens_with(page, monkeypatch):
    """A search is kept if the list of videos that the page loads first arrives after it."""
    searched, arrived = threading.Event(), threading.Event()
    covers = Library.covers

    def late(library, videos):
        assert searched.wait(60)
        arrived.set()
        return covers(library, videos)

    monkeypatch.setattr(Library, "covers", late)
    page.reload()
    search(page, "rain")
    searched.set()
    assert arrived.wait(60)
    page.locator(".ts-why").first.click()
    expect(page.locator("dialog[open]")).to_be_visible()  # this answer comes after the list
    expect(page.locator(".ts-summary")).to_contain_text("“rain”")


def test_what_is_asked_while_a_search_is_on_is_answered_after_it(page, monkeypatch):
    asked_again = threading.Event()
    find = Library.search

    def late(library, query):
        assert asked_again.wait(60)
        return find(library, query)

    monkeypatch.setattr(Library, "search", late)
    text = text_box(page, "text")
    for words in ("rain", "snow"):
        text.fill(words)
        text.press("Enter")
    asked_again.set()
    expect(page.locator(".ts-summary", has_text="snow")).to_contain_text("“snow”")


def test_refuses_a_file_that_is_too_large(page):
    choose(page, "By a clip", {"name": "large.mp4", "mimeType": "video/mp4", "buffer": bytes(2_100_000)})
    expect(page.get_by_text(re.compile("exceed the maximum allowed size of .*large.mp4")).first).to_be_visible()


def test_adds_several_videos_under_their_own_names_and_removes_them(page, folder, tmp_path):
    """Added videos are found at once and never added twice, and an invalid file doesn't affect the others."""
    expect(page.locator(".ts-card").first).to_be_visible()
    before = page.locator(".ts-head p").inner_text()
    write_video(tmp_path / "Straße (rm -rf $HOME).MP4", frames=25, fps=10)
    (tmp_path / "no video.mp4").write_bytes(b"no video")
    files = [tmp_path / "Straße (rm -rf $HOME).MP4", tmp_path / "no video.mp4"]
    for message in ("can be found from now on.", "is in the index already."):
        panel = upload(page, "Add videos", files)
        panel.get_by_role("button", name="Add to the index").click()
        expect(panel.locator(".ts-done")).to_contain_text(f"Straße (rm -rf HOME).MP4 {message}")
        expect(panel.locator(".ts-error")).to_contain_text("no video.mp4 can't be read as a video")
    expect(page.locator(".ts-head p")).not_to_have_text(before)
    kept = [path.relative_to(folder / "index-uploads").parts for path in (folder / "index-uploads").rglob("*.MP4")]
    assert [parts[1] for parts in kept] == ["Straße (rm -rf HOME).MP4"]
    assert re.fullmatch("[0-9a-f]{16}", kept[0][0])

    leave_nothing_out(folder / "index")  # the index has grown and was calibrated again
    page.get_by_role("tab", name="By words").click()
    search(page, "rain once more")
    assert page.locator(".ts-card strong", has_text="Straße (rm -rf HOME).MP4").count() == 1
    page.get_by_role("tab", name="Add videos").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(".ts-added li", has_text="Straße").get_by_role("button", name="Remove").click()
    expect(page.locator("#add .ts-done")).to_have_text("Straße (rm -rf HOME).MP4 is removed.")
    expect(page.locator(".ts-head p")).to_have_text(before)
    assert not any((folder / "index-uploads").iterdir())
    leave_nothing_out(folder / "index")


def test_adds_a_video_with_its_subtitles(page, folder, tmp_path):
    """Uploaded subtitles are searchable, those without a video are skipped, and removing the video removes them."""
    write_video(tmp_path / "talk.mp4", frames=50, fps=10)
    for name, words in (("talk.en.srt", "the tide is out"), ("else.srt", "nobody says this")):
        (tmp_path / name).write_text(f"1\n00:00:01,000 --> 00:00:03,000\n{words}\n")
    panel = upload(page, "Add videos", [tmp_path / name for name in ("talk.en.srt", "talk.mp4", "else.srt")])
    panel.get_by_role("button", name="Add to the index").click()
    message = "talk.mp4 can be found from now on. So can what is said in it, by its subtitles."
    expect(panel.locator(".ts-done")).to_have_text(message)
    expect(panel.locator(".ts-error")).to_contain_text("else.srt is left out: no video of its name was chosen")
    kept = {path.name for path in (folder / "index-uploads").rglob("talk*")}
    assert kept == {"talk.mp4", "talk.en.srt"}
    (hit,) = httpx.get(page.url + "api/search", params={"text": "the tide", "in": "speech"}).json()["hits"]
    assert (hit["video"], hit["second"]) == ("talk.mp4", 1.0)
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(".ts-added li", has_text="talk").get_by_role("button", name="Remove").click()
    expect(page.locator("#add .ts-done")).to_have_text("talk.mp4 is removed.")
    assert not any((folder / "index-uploads").iterdir())
    leave_nothing_out(folder / "index")


def test_the_address_has_the_search(page, address):
    """The search is part of the URL, so that reloading, going back and links lead to the same results."""
    expect(page.locator(".ts-example")).to_have_count(3)  # the start page has examples and the indexed videos
    assert set(page.locator(".ts-card strong").all_inner_texts()) == {"long.mp4", HOSTILE, "clip"}
    search(page, "rain & snow")
    assert page.url == f"{address}/?text=rain+%26+snow"
    text_box(page, "filter").fill("LONG")
    text_box(page, "filter").press("Enter")
    expect(page.locator(".ts-card strong", has_text="clip")).to_have_count(0)
    assert page.url == f"{address}/?text=rain+%26+snow&filter=LONG"
    assert page.title() == "rain & snow – Search your videos"
    page.reload()
    expect(page.locator(".ts-summary")).to_contain_text("“rain & snow”")
    assert text_box(page, "filter").input_value() == "LONG"
    assert set(page.locator(".ts-card strong").all_inner_texts()) == {"long.mp4"}
    page.go_back()
    expect(page.locator(".ts-card strong", has_text="clip")).not_to_have_count(0)
    assert text_box(page, "filter").input_value() == ""
    page.go_back()
    page.locator(".ts-example").first.click()
    expect(page.locator(".ts-summary")).to_contain_text("“a text”")  # the caption that the index is calibrated with
    assert page.url == f"{address}/?text=a+text"
    page.go_forward()  # a new search clears the forward history
    assert page.url == f"{address}/?text=a+text"
    page.goto(f"{address}/?text=rain&filter=nowhere")
    expect(page.locator(".ts-none")).to_have_text(
        "No video here has “nowhere” in its name, its folder or its metadata."
    )
    page.goto(f"{address}/?text=rain&count=1000")
    expect(page.get_by_role("alert")).to_have_text("The count is 1000; a number from 1 to 96 is taken.")


def test_says_in_words_that_nothing_fits_or_a_file_is_missing(browser, folder, tmp_path):
    shutil.copy(folder / "clip.mp4", tmp_path / "soon gone.mp4")
    settings = WindowSettings(6, 3, 1)
    index_videos(tmp_path, folder / "model", tmp_path / "index", settings=settings, workers=0, device="cpu")
    with Store.write(tmp_path / "index") as store:
        store.set_unrelated_scores(["a text"], [1e9], 1)
    (tmp_path / "soon gone.mp4").unlink()
    with serving(create_app(tmp_path / "index", device="cpu", read_only=True)) as address:
        page = browser.new_page()
        page.goto(f"{address}/?text=rain")
        expect(page.locator(".ts-none")).to_contain_text("Nothing here fits “rain” better than chance.")
        assert page.locator(".ts-done, .ts-error").count() == 0
        page.get_by_role("link", name="Show what comes closest").click()
        expect(page.locator(".ts-summary")).to_contain_text("also such as fit no better than chance")
        assert page.url == f"{address}/?text=rain&all=1"
        page.locator(".ts-play").click()
        expect(page.get_by_role("alert")).to_have_text("The file of this video is gone or has changed.")
        page.close()


def test_says_what_is_spoken_in_a_moment(browser, folder, tmp_path):
    """Speech is shown on the page and in the API, a button plays it, and nothing in subtitles is executed."""
    shutil.copy(folder / "videos" / "long.mp4", tmp_path / "talk.mp4")
    words = "we choose &lt;img src=x onerror=document.title='hacked'&gt; to go"
    (tmp_path / "talk.srt").write_text(f"1\n00:00:07,500 --> 00:00:09,000\n{words}\n")
    settings = WindowSettings(6, 3, 1)
    index_videos(tmp_path, folder / "model", tmp_path / "index", settings=settings, workers=0, device="cpu")
    with Store.write(tmp_path / "index") as store:
        store.set_unrelated_scores(["a text"], [1e9], 1)
    with serving(create_app(tmp_path / "index", device="cpu", read_only=True)) as address:
        (hit,) = httpx.get(f"{address}/api/search", params={"text": "Choose to GO"}).json()["hits"]
        assert (hit["found_in"], hit["score"], hit["chance"], hit["second"]) == (["speech"], None, None, 7.5)
        assert hit["start"] <= 7.5 < hit["end"]
        for where, count in (("speech", 1), ("picture", 0)):
            answer = httpx.get(f"{address}/api/search", params={"text": "choose to go", "in": where}).json()
            assert (answer["in"], len(answer["hits"])) == (where, count)
        page = browser.new_page()
        page.goto(f"{address}/?text=choose+to+go")
        expect(page.locator(".ts-spoken")).to_contain_text("we choose")
        expect(page.locator(".ts-card")).to_have_count(1)
        assert page.locator(".ts-why").count() == 0
        page.get_by_role("button", name="Spoken at 0:07").click()
        expect(page.locator("video")).to_have_js_property("paused", False)
        assert page.evaluate("document.querySelector('video').currentTime") >= 7.4
        page.locator("#search-in input").click()
        page.get_by_role("option", name="Picture only").click()
        expect(page.locator(".ts-none")).to_contain_text("Nothing here fits “choose to go” better than chance.")
        assert page.url == f"{address}/?text=choose+to+go&in=picture"
        page.goto(f"{address}/?text=go+choose&in=speech")
        expect(page.locator(".ts-summary")).to_contain_text("1 moment for “go choose” in speech only, best first")
        expect(page.locator("#search-in input")).to_have_value("Speech only")
        page.goto(f"{address}/?text=rain&in=speech")
        expect(page.locator(".ts-none")).to_have_text("The subtitles here have no moment with all words of “rain”.")
        assert "hacked" not in page.title()
        page.close()


def test_no_answer_has_a_path_of_the_server(browser, address, folder):
    """No response contains a path of the server: the page, its resources, uploads and failed searches."""
    page = browser.new_page()
    answers = []
    page.on("response", lambda response: answers.append(response))
    page.goto(address)
    search(page, "rain")
    upload(page, "By a clip", folder / "labels.csv.mp4").get_by_role("button", name="Search with this clip").click()
    expect(page.get_by_role("alert")).to_contain_text("labels.csv.mp4 can't be read as a video")
    texts = [page.content()]  # includes the streamed updates
    for answer in answers:
        with contextlib.suppress(Error):  # a streamed response has no text
            texts.append(answer.text())
    page.close()
    config = httpx.get(f"{address}/config").text
    secrets = {str(folder), os.environ["GRADIO_TEMP_DIR"], os.getcwd(), os.path.expanduser("~")} - {"/"}
    for text in [*texts, config]:
        assert not [secret for secret in secrets if secret in text]
    assert any(text.endswith('/labels.csv.mp4"]') for text in texts)  # the answer to the upload is among them


# ---------------------------------------------------------------------------------------------------------------------
# Behind the page


class CrashingProcessor:
    """Processor that ends its process, as a decoder that crashes on a video does."""

    def __call__(self, *args, **settings):
        os._exit(1)


class GreedyProcessor:
    """Processor that allocates 8 GiB, as a decoder may for a file of a few bytes."""

    def __call__(self, *args, **settings):
        return np.empty(2**33, np.uint8)


def test_an_upload_that_crashes_the_decoder_costs_only_its_own_process(folder):
    with pytest.raises(
        UploadError, match=r"^clip\.mp4 can't be read as a video: the process that decoded it crashed\.$"
    ):
        clip_inputs(str(folder / "clip.mp4"), CrashingProcessor(), LIMITS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process has")
def test_an_upload_that_takes_too_much_memory_gets_a_sentence(folder):
    with pytest.raises(UploadError, match=r"^clip\.mp4 takes too much memory to decode: more than 4 GiB\.$"):
        clip_inputs(str(folder / "clip.mp4"), GreedyProcessor(), LIMITS)


def test_frames_beyond_4k_are_refused(folder, tmp_path):
    """Frames beyond 4K are refused in query clips and in added videos, and no file is kept."""
    write_video(tmp_path / "huge.mp4", frames=1, size=(4224, 2400), options={"preset": "ultrafast", "crf": "51"})
    library = Library(folder / "index", model=None, device="cpu", uploads=tmp_path / "kept", limits=LIMITS)
    for use in (library.remember_clip, library.add):
        with pytest.raises(UploadError, match=r"^huge\.mp4 .*frames of 4224x2400, expected at most 9437184 pixels\.$"):
            use(str(tmp_path / "huge.mp4"))
    assert not (tmp_path / "kept").exists()


def test_explains_the_very_windows_that_were_found(folder, tmp_path):
    """An explanation has the frames and score of the indexed window, not those of the model's own sampling."""
    write_video(tmp_path / "tv.mp4", frames=270, fps=Fraction(30000, 1001))
    videos = [tmp_path / "tv.mp4", folder / "videos"]
    index_videos(
        videos, folder / "model", tmp_path / "index", settings=WindowSettings(3, 2, 2), workers=0, device="cpu"
    )
    leave_nothing_out(tmp_path / "index")
    library = Library(tmp_path / "index", model=None, device="cpu", uploads=None, limits=LIMITS)
    names = (Path(video).name for video in VideoIndex.open(tmp_path / "index").videos())
    hits = [hit for name in names for hit in library.search(Query("rain", filter=name, count=20))]
    assert {round(hit.end - hit.start, 6) for hit in hits} > {3.0}  # the last windows are shorter
    for hit in hits:
        name, explanation = library.explain(hit.window, Query("rain"))
        assert name == library.catalogue().name(hit.video_id)
        assert len(explanation.frames) == math.ceil(2 * (hit.end - hit.start) - 1e-6)
        assert explanation.scores[0] == pytest.approx(hit.score, abs=0.01)
        assert hit.second == pytest.approx(explanation.seconds[explanation.weights[0].argmax()])


def test_explaining_decodes_apart_and_keeps_nobody_waiting(folder):
    """Explaining doesn't block other visitors, and a video that crashes the decoder gives one sentence."""
    library = Library(folder / "index", model=None, device="cpu", uploads=None, limits=LIMITS)
    window = library.search(Query("rain", count=1))[0].window
    library._processor.video_processor = CrashingProcessor()
    with ThreadPoolExecutor(1) as visitor, library._computing:
        error = visitor.submit(library.explain, window, Query("rain")).exception(timeout=60)
    assert isinstance(error, UploadError)
    assert str(error).endswith("can't be read as a video: the process that decoded it crashed.")


def test_a_clip_is_searched_for_as_the_index_does_it(folder):
    """A clip decoded in a separate process gives the same hits and scores as one decoded in this process."""
    index, clip = folder / "index", str(folder / "clip.mp4")
    library = Library(index, model=None, device="cpu", uploads=None, limits=LIMITS)
    query = Query(clip=library.remember_clip(clip), count=5)
    hits = library.search(query)
    assert hits == VideoIndex.open(index, device="cpu").search_video(clip, k=5, per_video=3, fold=True)
    for hit in hits[:2]:
        _, explanation = library.explain(hit.window, query)
        assert explanation.scores[0] == pytest.approx(hit.score, abs=0.01)
        assert hit.second == pytest.approx(explanation.seconds[explanation.weights[0].argmax()])
    with pytest.raises(ValueError, match=r"^The server no longer has this clip: upload it again\.$"):
        library.search(Query(clip="another"))


def test_visitors_add_no_more_than_is_allowed(folder, tmp_path):
    """A video beyond the total limit is refused and not kept, and adding a known video again is still allowed."""
    shutil.copytree(folder / "index", tmp_path / "index")
    limits = UploadLimits(megabytes=2, seconds=30, total_megabytes=1)
    library = Library(tmp_path / "index", model=None, device="cpu", uploads=tmp_path / "kept", limits=limits)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "earlier.mp4").write_bytes(bytes(2**20 - 100_000))
    write_video(tmp_path / "small.mp4", frames=12, fps=4)
    assert "can be found" in library.add(str(tmp_path / "small.mp4"))
    write_video(tmp_path / "more.mp4", frames=13, fps=4)
    (tmp_path / "kept" / "later.mp4").write_bytes(bytes(100_000))
    before = sorted(os.listdir(tmp_path / "kept"))
    with pytest.raises(
        UploadError, match=r"more\.mp4 can't be added: all added videos may take 1 MB, and 1\.0 MB are"
    ):
        library.add(str(tmp_path / "more.mp4"))
    assert sorted(os.listdir(tmp_path / "kept")) == before
    assert "is in the index already" in library.add(str(tmp_path / "small.mp4"))


def test_a_video_that_is_found_keeps_its_file(folder, tmp_path, monkeypatch):
    """A committed video keeps its file even if a later step fails, and an uncommitted one leaves no file."""
    shutil.copytree(folder / "index", tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    library = Library("index", model=None, device="cpu", uploads=tmp_path / "kept", limits=LIMITS)

    def fail(store):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "index" / "windows.lance"))

    write_video(tmp_path / "late.mp4", frames=12, fps=4)
    write_video(tmp_path / "early.mp4", frames=13, fps=4)
    for name, step in (("late", "compact"), ("early", "broken")):
        with monkeypatch.context() as patched:
            patched.setattr(Store, step, fail)
            with pytest.raises(OSError, match=r"^index/windows\.lance: No space left on device$"):
                library.add(str(tmp_path / f"{name}.mp4"))
    kept = list((tmp_path / "kept").rglob("*.mp4"))
    assert [path.name for path in kept] == ["late.mp4"]
    assert str(kept[0]) in VideoIndex.open("index").videos()


def windows(folder):
    """Map each video id to the name of one of its windows."""
    hits = VideoIndex.open(folder / "index").search("rain", k=50)
    return {hit.video_id: hit.window for hit in hits}


def test_sends_indexed_videos_in_ranges(address, folder):
    """Indexed videos and members of archives are sent whole or as byte ranges."""
    for video, window in windows(folder).items():
        file = folder / "clip.mp4" if ".tar#" in video else Path(video)
        content, url = file.read_bytes(), f"{address}/video/{window}"
        whole = httpx.get(url)
        assert whole.content == content
        assert whole.headers["content-type"].startswith("video/")
        assert httpx.head(url).headers["content-length"] == str(len(content))
        for byte_range, expected in {
            "bytes=10-19": content[10:20],
            "bytes=100-": content[100:],
            "bytes=-7": content[-7:],
        }.items():
            part = httpx.get(url, headers={"Range": byte_range})
            assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"] == f"bytes {len(content) - 7}-{len(content) - 1}/{len(content)}"
        assert httpx.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


def test_reads_nothing_to_say_how_long_a_video_is(folder):
    with open(folder / "clip.mp4", "rb") as file:
        answer = head_response(file, 123, {"Content-Type": "video/mp4"})
        assert file.closed
    assert answer.headers["content-length"] == "123"
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    "path",
    [
        "/video/{secret}",
        "/video/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/video/0123456789abcdef-000000",
        "/video/0123456789abcdef-000000' OR '1'='1",
        "/gradio_api/file={secret}",
        "/gradio_api/file={folder}/videos/../secret.mp4",
        "/gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/gradio_api/file/{secret}",
        "/gradio_api/file={address}/",
        "/gradio_api/proxy={address}/",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_sends_nothing_else(address, folder, path):
    """No path or address gives access to a file that is not indexed."""
    path = path.format(secret=folder / "secret.mp4", folder=folder, address=address)
    answer = httpx.get(address + path)
    assert answer.status_code in (400, 403, 404)
    assert "nobody's" not in answer.text
    assert "root:" not in answer.text


@pytest.fixture(scope="module")
def upload_here(folder):
    """A function that sends an upload directly to the application, without a server that checks its length."""
    app = create_app(folder / "index", device="cpu", limits=LIMITS, read_only=True)

    def send(content, headers=(), url="/gradio_api/upload"):
        async def post():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
                return await client.post(url, content=content, headers=dict(headers) | {"Content-Type": FORM})

        with ThreadPoolExecutor(1) as thread:  # the event loop of this thread belongs to the browser
            return thread.submit(asyncio.run, post()).result()

    return send


FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.mp4"\r\n\r\n%b\r\n'


async def many_files():
    """A form without a length that has too many files, none of them too large."""
    for number in range(45):
        yield PART % (number, bytes(500_000))
    yield b"--x--\r\n"


def arrived():
    """Map each uploaded file on the server to its size in bytes."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def test_takes_some_uploads_at_a_time(upload_here):
    """Uploads that are too large or too many are refused with or without a length, and no file is kept."""
    before = arrived()
    several = b"".join(PART % (number, bytes([number]) * 1_500_000) for number in (1, 2)) + b"--x--\r\n"
    accepted = upload_here(several)
    assert accepted.status_code == 200
    assert sum(arrived().values()) == sum(before.values()) + 3_000_000
    assert {Path(name).name for name in accepted.json()} == {"1.mp4", "2.mp4"}
    assert set(accepted.json()) == arrived().keys() - before.keys()  # paths relative to the upload folder
    before = arrived()
    too_many = (413, "The request exceeds the maximum allowed size of 21037056 bytes.")
    for content in (many_files(), PART % (1, bytes(21_100_000)) + b"--x--\r\n"):
        refused = upload_here(content)
        assert (refused.status_code, refused.text) == too_many
        assert arrived() == before
    refused = upload_here(PART % (1, bytes(2_100_000)) + b"--x--\r\n")
    assert refused.status_code == 413
    assert arrived() == before
    assert upload_here(many_files(), url="/gradio_api/queue/join").status_code == 400


def test_takes_no_more_uploads_than_it_can_keep(upload_here):
    """Uploads are refused while too many are waiting, and old interrupted uploads are deleted to make room."""
    parts = [Path(os.environ["GRADIO_TEMP_DIR"], f"tmp{number}") for number in range(21)]
    for part in parts:
        part.write_bytes(bytes(2**21))
    whole = PART % (1, bytes(200_000)) + b"--x--\r\n"
    try:
        refused = upload_here(whole)
        assert (refused.status_code, refused.text) == (
            503,
            "Too many uploads are waiting here. Try again in an hour.",
        )
        for part in parts[:2]:
            os.utime(part, (0, 0))
        assert upload_here(whole).status_code == 200
        assert [part.exists() for part in parts] == [False] * 2 + [True] * 19
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://here"}, 200),
        ({"Origin": "http://there"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://shown.example", "X-Forwarded-Host": "shown.example"}, 200),
        ({"Origin": "http://there", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_upload_nothing(upload_here, headers, status):
    """Forms of other sites can be sent to this server, so uploads are checked by `Origin` and `Sec-Fetch-Site`."""
    before = arrived()
    assert upload_here(PART % (2, b"a video") + b"--x--\r\n", headers).status_code == status
    assert status == 200 or arrived() == before


def test_a_filter_knows_what_visitors_see(folder):
    """A filter matches displayed names and metadata, and nothing else in the paths."""
    library = Library(folder / "index", model=None, device="cpu", uploads=None, limits=LIMITS)

    def matching(filter):
        return {Path(hit.video_id).name for hit in library.search(Query("rain", filter, count=1))}

    for filter in (folder.parent.name, "videos", ".tar", "train-00000"):
        assert not matching(filter)
    assert matching("LONG") == matching("*ong.mp4") == matching("caption=script hacked") == {"long.mp4"}
    assert matching("clip") == matching("cli") == {"train-00000.tar#clip"}


@pytest.mark.parametrize("where", ["secret", "address"])
def test_takes_no_file_that_was_not_uploaded(address, folder, where):
    """A request that names a file of the server or an address instead of an upload fails and changes nothing."""
    path = {"secret": str(folder / "clip.mp4"), "address": "https://example.org/clip.mp4"}[where]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    config = httpx.get(f"{address}/config").json()
    button = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "add-button")
    add = next(function["id"] for function in config["dependencies"] if [button, "click"] in function["targets"])
    body = {"fn_index": add, "data": [[file]], "session_hash": "abc"}
    before = sorted(os.listdir(folder))
    httpx.post(f"{address}/gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{address}/gradio_api/queue/data", params={"session_hash": "abc"}, timeout=20) as events:
        completed = next(line for line in events.iter_lines() if "process_completed" in line)
    assert '"success":false' in completed.replace(" ", "")
    assert "Traceback" not in completed
    assert sorted(os.listdir(folder)) == before


def test_does_not_send_what_has_taken_a_videos_place(tmp_path, folder):
    """An indexed file that was replaced by a link to another file is no longer sent."""
    video = write_video(tmp_path / "video.mp4", frames=24)
    index_videos(
        video, folder / "model", tmp_path / "index", settings=WindowSettings(6, 3, 1), workers=0, device="cpu"
    )
    window = VideoIndex.open(tmp_path / "index").search("rain", min_score=-math.inf)[0].window
    with serving(create_app(tmp_path / "index", device="cpu", read_only=True)) as address:
        assert httpx.get(f"{address}/video/{window}").status_code == 200
        video.unlink()
        video.symlink_to(folder / "secret.mp4")
        assert httpx.get(f"{address}/video/{window}").status_code == 404
        ids = {one["props"].get("elem_id") for one in httpx.get(f"{address}/config").json()["components"]}
        assert "search" in ids
        assert "add-button" not in ids  # the app is read-only
        assert not (tmp_path / "index-uploads").exists()


def test_answers_several_users_at_once(address):
    """Concurrent requests each get the results of their own query."""
    texts = [f"visitor {number}" for number in range(8)]

    def ask(text):
        return httpx.get(f"{address}/api/search", params={"text": text, "count": 3}, timeout=60).json()

    with ThreadPoolExecutor(4) as visitors:
        for text, answer in zip(texts, visitors.map(ask, texts), strict=True):
            assert answer["text"] == text
            assert [set(hit) for hit in answer["hits"]] == [API_HIT] * 3


API_HIT = {
    *("video", "start", "end", "second", "score", "chance", "found_in", "spoken"),
    *("window", "file", "metadata", "copies"),
}


def test_programs_search_by_json(address, folder):
    """The JSON API has the filters and limits of the page, and returns errors as JSON."""
    searched = httpx.get(f"{address}/api/search", params={"text": "rain", "filter": "LONG"}).json()
    assert {hit["video"] for hit in searched["hits"]} == {"long.mp4"}
    assert searched["hits"][0]["metadata"] == {"caption": "<script>document.title='hacked'</script>"}
    played = httpx.get(address + searched["hits"][0]["file"])
    assert played.content == (folder / "videos" / "long.mp4").read_bytes()
    listed = httpx.get(f"{address}/api/videos", params={"count": 2}).json()
    assert (listed["total"], len(listed["videos"])) == (3, 2)
    for path, status, message in (
        ("search", 400, "Type what to look for."),
        (f"search?text={'a' * 1001}", 400, "The text has 1,001 characters; at most 1,000 are taken."),
        (f"search?text=a&filter={'a' * 201}", 400, "The filter has 201 characters; at most 200 are taken."),
        (f"search?text={'a' * 20_000}", 400, "The address has 20,005 characters; at most 16,384 are taken."),
        ("search?text=a&count=97", 400, "The count is 97; a number from 1 to 96 is taken."),
        ("search?clip=unknown", 400, "The server no longer has this clip: upload it again."),
        ("else", 404, "There is only GET /api/search and GET /api/videos."),
    ):
        answer = httpx.get(f"{address}/api/{path}")
        assert (answer.status_code, answer.json()) == (status, {"error": message})
    refused = httpx.post(f"{address}/api/search", headers={"Origin": "http://there"})
    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "A page of another site can't send anything here."},
    )


def test_an_index_that_cannot_be_read_is_no_fault_of_the_request(folder, tmp_path):
    """An unreadable index gives status 503, and the message contains no folder of the server."""
    index = shutil.copytree(folder / "index", tmp_path / "index")
    with serving(create_app(index, device="cpu", read_only=True)) as address:
        assert httpx.get(f"{address}/api/search", params={"text": "rain"}).status_code == 200
        for file in (index / "windows.lance" / "data").iterdir():
            file.write_bytes(b"")
        answer = httpx.get(f"{address}/api/search", params={"text": "rain", "filter": "long"})
    assert answer.status_code == 503
    assert "index: files of the index are missing or damaged" in answer.json()["error"]
    assert str(tmp_path) not in answer.text


def test_answers_to_its_own_name_only(address, folder):
    """Requests with another host name are refused, so that other sites can't reach a local server (DNS rebinding)."""
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400
    policy = httpx.get(address).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert policy.endswith("frame-ancestors 'self'")
    app = create_app(folder / "index", device="cpu", read_only=True, frame_ancestors=["https://huggingface.co"])
    with serving(app) as elsewhere:
        policy = httpx.get(elsewhere).headers["content-security-policy"]
        assert policy.endswith("frame-ancestors 'self' https://huggingface.co")


# ---------------------------------------------------------------------------------------------------------------------
# The command, and the Space


def test_the_command_serves_this_computer_only(folder):
    server = ForkedPython(["-m", "ts2net", "app", folder / "index", "--port", "0", "--device", "cpu"])
    try:
        while (match := re.search(r"(http://127\.0\.0\.1:\d+) ", server.printed()[0])) is None:
            assert server.poll() is None
            time.sleep(0.05)
        assert httpx.get(match[1], timeout=60).status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-index"], "no-index: there is no index"),
        (["no-index", "--host", "no.such.host.invalid"], "can't listen on no.such.host.invalid"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["app", "--port", "0", *arguments])
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_answers_to_the_address_that_it_was_given():
    """Other host names are refused only if the server listens on a loopback address."""
    assert "127.0.0.2" in _names("127.0.0.2")
    assert "[::1]" in _names("::1")
    assert "evil.example" not in _names("localhost")
    assert _names("0.0.0.0") == _names("192.168.0.2") == ("*",)


def test_the_command_says_that_a_port_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit):
        main(["app", "no-index", "--port", str(listener.getsockname()[1])])
    assert "Address already in use" in capsys.readouterr().err


def test_a_space_stands_alone(folder, tmp_path):
    """The folder of a Space runs without the installed package and the original index, and finds the same videos."""
    space = tmp_path / "space"
    written = write_space(folder / "index", space, limits=LIMITS)
    assert written.videos == len(list((space / "videos").glob("*.mp4"))) >= 3
    assert "sdk: gradio" in (space / "README.md").read_text()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    with (
        subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            while True:
                assert server.poll() is None
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/").status_code == 200:
                        break
                time.sleep(0.2)
            params = {"text": "a dog", "filter": "long", "all": "1"}
            hits = client.get("/api/search", params=params).json()["hits"]
            assert {hit["video"].partition("-")[0] for hit in hits} == {"long"}
            assert {hit["metadata"]["caption"] for hit in hits} == {"<script>document.title='hacked'</script>"}
            assert client.get(hits[0]["file"]).status_code == 200
        finally:
            server.terminate()
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_space(folder / "index", space)
