"""The search page in Gradio.

Names and texts are shown through templates, which escape them. An expected error is shown as a sentence in place of
the result; an unexpected one goes to the server's log.
"""

import itertools
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import one_line
from ..explanation import Explanation, drawn_frames, found_words
from ..pages.rendering import read_template, render
from ..search import Hit
from ..videos.finding import VIDEO_SUFFIXES
from .library import Library, shown_name

_LONGEST_TEXT = 1000  # characters; more than the model reads
_VISITORS_WAITING = 64

logger = logging.getLogger(__name__)
_numbers = itertools.count()  # of explanations: the page only notices one that differs from the last


def make_page(library: Library) -> gr.Blocks:
    """Build the page of an index.

    Args:
        library: The index.
    """
    page = _Page(
        title="Search your videos",
        analytics_enabled=False,
        delete_cache=(600, 3600),  # seconds: every ten minutes, uploads that are an hour old
    )
    limits = library.limits
    upload: dict[str, Any] = {"file_types": ["video", *sorted(VIDEO_SUFFIXES)], "height": 132}
    accepted = f"a video of at most {limits.megabytes:,} MB and {limits.seconds:,} seconds"
    with page:
        facts = gr.HTML(render("app/facts.html", facts=library.facts()))
        with gr.Tab("By words", elem_id="words"), gr.Row(equal_height=True):
            text = gr.Textbox(
                placeholder="a dog catches a frisbee",
                show_label=False,
                label="What to look for",
                container=False,
                autofocus=True,
                scale=8,
                max_length=_LONGEST_TEXT,
                elem_id="text",
            )
            search = gr.Button("Search", variant="primary", scale=1, min_width=110, elem_id="search")
        with gr.Tab("By a clip", elem_id="clip"):
            clip = gr.File(label=f"What to look for: {accepted}", elem_id="clip-file", **upload)
            search_clip = gr.Button("Search with this clip", variant="primary", elem_id="clip-search")
        if library.uploads is not None:
            with gr.Tab("Add a video", elem_id="add"):
                video = gr.File(label=f"To be searched by everyone here: {accepted}", elem_id="add-file", **upload)
                add = gr.Button("Add to the index", variant="primary", elem_id="add-button")
                added = gr.HTML(elem_id="added")
        with gr.Accordion("Options", open=False, elem_id="options"), gr.Row():
            count = gr.Slider(1, 48, value=12, step=1, label="Moments to show", elem_id="count")
            pattern = gr.Textbox(label="Only videos whose name is like", placeholder="*holiday*", elem_id="pattern")
        hits = gr.HTML(elem_id="hits", js_on_load=read_template("app/hits.js"))
        explanation = gr.HTML(elem_id="explanation", js_on_load=read_template("app/explanation.js"))

        def find(words: str, how_many: float, path: str | None) -> str:
            words = _checked(words)
            return _hits(library.search(words, int(how_many), _pattern(path)), text=words)

        def find_by_clip(file: str | None, how_many: float, path: str | None) -> str:
            hits = library.search_clip(file, int(how_many), _pattern(path))
            return _hits(hits, clip=Path(file or "").name)

        def add_video(file: str | None) -> str:
            return render("app/message.html", kind="done", text=library.add(file))

        def why(event: gr.EventData) -> str:
            return _explanation(*library.explain(str(event.window), _checked(str(event.text))))

        for event in (search.click, text.submit):
            event(_with_error_message(find), [text, count, pattern], hits, api_name="search", concurrency_limit=4)
        search_clip.click(
            _with_error_message(find_by_clip),
            [clip, count, pattern],
            hits,
            api_name="search_by_clip",
            concurrency_limit=2,
        )
        hits.explain(_with_error_message(why), None, explanation, api_visibility="private", concurrency_limit=2)
        if library.uploads is not None:
            add.click(_with_error_message(add_video), video, added, api_name="add", concurrency_limit=1).then(
                lambda: render("app/facts.html", facts=library.facts()), None, facts, api_visibility="private"
            )
        page.load(lambda: render("app/facts.html", facts=library.facts()), None, facts, api_visibility="private")
    return page.queue(max_size=_VISITORS_WAITING)


def theme() -> gr.Theme:
    """Colours and fonts of the page. The fonts come with Gradio, so the browser loads them from nowhere else."""
    font = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    mono = gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700))
    return gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=[font, "system-ui", "sans-serif"],
        font_mono=[mono, "monospace"],
    )


def css() -> str:
    """The page's own style."""
    return read_template("style.css") + read_template("app/app.css")


class _Page(gr.Blocks):
    """Accepts uploaded files only.

    A request names its files. Gradio checks these names only for pages that it serves itself, not for a mounted one,
    and downloads addresses.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.has_launched = True  # makes Gradio check file names

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse addresses, then call the base class."""
        _refuse_addresses(inputs)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def _refuse_addresses(data: Any) -> None:
    if isinstance(data, dict):
        if "://" in str(data.get("path", "")):
            raise gr.Error("A file has to be uploaded; addresses are not fetched.", print_exception=False)
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            _refuse_addresses(item)


def _with_error_message(answer: Callable[..., str]) -> Callable[..., str]:
    """Return the message of an error in place of the result."""

    @wraps(answer)
    def answer_or_message(*args: Any) -> str:
        try:
            return answer(*args)
        except (ValueError, OSError) as error:
            message = one_line(error)
        except Exception:
            logger.exception("a visitor's request failed")
            message = "That did not work, and the server's log says why."
        return render("app/message.html", kind="error", text=message)

    return answer_or_message


def _checked(text: str | None) -> str:
    text = (text or "").strip()
    if not text:
        raise ValueError("Type what to look for.")
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"The text has {len(text):,} characters; at most {_LONGEST_TEXT:,} are taken.")
    return text


def _pattern(path: str | None) -> str | None:
    return (path or "").strip() or None


def _hits(hits: list[Hit], text: str | None = None, clip: str | None = None) -> str:
    if not hits:
        sought = "this clip" if text is None else f"“{text}”"
        return render("app/message.html", kind="none", text=f"Nothing here fits {sought} better than chance.")
    return render("app/hits.html", shown_name=shown_name, hits=hits, text=text, clip=clip)


def _explanation(video: str, explanation: Explanation) -> str:
    return render(
        "app/explanation.html",
        number=next(_numbers),
        name=shown_name(video),
        text=explanation.texts[0],
        score=explanation.scores[0],
        selected=explanation.selected_tokens.shape[1] > 0,
        words=None if explanation.words is None else found_words(explanation),
        frames=drawn_frames(explanation),
    )
