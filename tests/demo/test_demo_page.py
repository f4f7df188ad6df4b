"""The demo's page: complete, safe and consistent with the scores."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import sync_playwright

from support.html_pages import HOSTILE, Page, content
from ts2net.benchmarks.moving_things import Scene, scenes
from ts2net.demo.answers import LookedAt, Share, answer, draw_captions, found_first, groups
from ts2net.demo.clips import Clip
from ts2net.demo.page import Findings, render_demo_page
from ts2net.explanation import Explanation, drawn_frames


def clip(folder: Path, scene: Scene) -> Clip:
    path = folder / f"{scene.video_id}.mp4"
    path.write_bytes(f"mp4 {scene.video_id}".encode())
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "JPEG")
    return Clip(scene, path, picture.getvalue())


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Eight clips and a group of four; every caption except the second and the last ranks its own clip first."""
    folder = tmp_path_factory.mktemp("clips")
    clips = [clip(folder, scene) for scene in scenes("test", 8)]
    group = [clip(folder, scene) for scene in scenes("motion", 4)]
    every = [*clips, *group]
    texts = [HOSTILE, *(each.scene.caption for each in every)]
    scores = {
        text: {
            each.scene.video_id: 10.0 * (each.scene.caption == text) + position for position, each in enumerate(every)
        }
        for text in texts
    }
    scores[group[3].scene.caption][group[0].scene.video_id] = 99.0
    scores[clips[1].scene.caption][clips[0].scene.video_id] = 99.0
    seen = Explanation(
        texts=("",),
        scores=(12.345,),
        frames=np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8),
        seconds=(0.0, 1.0, 2.0),
        weights=np.array([[0.5, 0.3, 0.2]]),
        selected_tokens=np.array([[1], [2], [16]]),
        patch_size=8,
    )
    answers = [answer(each.scene, group, scores) for each in group]
    return Findings(
        clips=clips,
        phrases=texts[:9],
        suggestions=[HOSTILE, *found_first(clips, scores)][:4],
        found_first=len(found_first(clips, scores)),
        scores=scores,
        captions=draw_captions(clips, scores, 5),
        motions=[answers],
        small_things=[LookedAt(answers[0], drawn_frames(seen))],
        share=Share(94.2, 17.1),
        facts=[(HOSTILE, HOSTILE)],
        search_command="ts2net search demo/index",
        next_commands=[("the same", "ts2net app demo/index")],
    )


def test_answers_are_what_the_scores_say(findings: Findings) -> None:
    first, *_, last = findings.motions[0]
    assert (first.is_right, first.rank) == (True, 1)
    assert (last.is_right, last.rank) == (False, 2)
    assert last.clip.scene.video_id == "motion-0000-0"
    assert all(each.is_right for each in findings.captions)
    assert len({each.caption for each in findings.captions}) == 5
    again = draw_captions(findings.clips, findings.scores, 5)
    assert [each.caption for each in again] == [each.caption for each in findings.captions], "the seed is fixed"
    assert [list(group) for group in groups(findings.clips, 2)] == [
        findings.clips[:4],
        findings.clips[4:],
    ]


def test_the_page_has_what_was_found(findings: Findings) -> None:
    """The page has the best clips of each phrase, marked first hits, the selected patches and, last, the figures."""
    page = Page(render_demo_page(findings))
    answers = json.loads(page.content("script", "answers"))
    assert answers["phrases"] == findings.phrases
    assert answers["suggestions"] == [findings.phrases[number] for number in (0, 1, 3, 4)]
    assert "the first ones whose own clip is the first hit, as it is for 7 of 8" in " ".join(page.text.split())
    assert answers["hits"][1] == [[0, 10.0], [7, 7.0], [6, 6.0], [5, 5.0], [4, 4.0], [3, 3.0]]
    assert page.text.count("✓ right") == 5 + 3 + 1
    assert re.search(r"✗ wrong: the caption's own clip is number 2 of 4", page.text)
    assert "5 of 5 are right" in page.text
    assert re.search(r"94 % of all selected patches show a thing; of all patches 17 % do", page.text)
    videos = [content(video["src"], "video/mp4").decode() for video in page.all("video")]
    assert videos[-8:] == [f"mp4 test-{number:05d}" for number in range(8)]
    assert all(str(video["poster"]).startswith("data:image/jpeg") for video in page.all("video"))
    assert len([image for image in page.all("img") if str(image["alt"]).startswith("Frame at")]) == 3
    assert page.text.index("Figures") > page.text.index("Small things")


def test_nothing_in_it_is_taken_for_code(findings: Findings) -> None:
    """Untrusted queries and facts are shown as text and never executed."""
    page = Page(render_demo_page(findings))
    assert {str(script.get("type")) for script in page.all("script")} == {"None", "application/json"}
    assert len(page.all("script")) == 2
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in page.text


def test_it_needs_nothing_else_and_its_policy_says_so(findings: Findings) -> None:
    html = render_demo_page(findings)
    page = Page(html)
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name == "src"]
    assert all(str(address).startswith("data:") for address in addresses)
    assert not page.all("link")
    assert "url(" not in html
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert str(policy).startswith("default-src 'none'; img-src data:; media-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]{43}='$", str(policy))


@pytest.fixture
def browser_page(findings: Findings, tmp_path: Path) -> Iterator[BrowserPage]:
    """The page in Chromium. Any console message or script error fails the test."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium here: apt install chromium")
    (tmp_path / "index.html").write_text(render_demo_page(findings))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())
        yield page
        browser.close()
        assert [text for text in messages if "ERR_" not in text] == []


@pytest.mark.browser
def test_the_search_box_answers_without_a_server(browser_page: BrowserPage, findings: Findings) -> None:
    """A few letters find a known phrase; for any other text, the page shows the search command."""
    thing = findings.clips[0].scene.thing
    browser_page.fill("#search input", thing[:4])
    assert findings.clips[0].scene.caption in browser_page.inner_text("#hits figcaption >> nth=0")
    assert browser_page.locator("#hits figure").count() == 6
    browser_page.fill("#search input", "zebras sing")
    assert browser_page.locator("#hits figure").count() == 0
    assert 'ts2net search demo/index "zebras sing"' in browser_page.inner_text("#answered")
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
