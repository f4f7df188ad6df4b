"""The search page in Gradio.

`templates/app/hits.js` writes the query to the page's address, in the form of [`Query`]. When the page is opened or
the visitor goes back, the page searches for the query of the address. Names and texts are shown through templates,
which escape them. An expected error is shown as a sentence instead of the result; an unexpected error is written to
the server's log.
"""

import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from ..errors import one_line
from ..explanation import Explanation, drawn_frames, found_words
from ..pages.rendering import read_template, render
from ..videos.finding import SUBTITLE_SUFFIXES, VIDEO_SUFFIXES
from .api import FAILED
from .library import Library
from .query import DEFAULT_COUNT, MAX_COUNT, MAX_FILTER, MAX_TEXT, Query
from .uploads import with_subtitles

_VISITORS_WAITING = 64
_LONGEST_WINDOW = 64  # characters of a window's name
_SEARCH_IN = [("Picture and speech", ""), ("Picture only", "picture"), ("Speech only", "speech")]

logger = logging.getLogger(__name__)
_numbers = itertools.count()  # of explanations; the page only notices an explanation that differs from the last


def make_page(library: Library, arrivals: Path) -> gr.Blocks:
    """Build the page of an index.

    Args:
        library: The index.
        arrivals: Folder in which Gradio stores uploads.
    """
    page = _Page(
        arrivals,
        title="Search your videos",
        analytics_enabled=False,
        delete_cache=(600, 3600),  # seconds: every ten minutes, delete uploads older than an hour
    )
    limits = library.limits
    upload: dict[str, Any] = {"file_types": ["video", *sorted(VIDEO_SUFFIXES)], "height": 132}
    accepted = f"at most {limits.megabytes:,} MB and {limits.seconds:,} s"
    with page:
        facts = gr.HTML(_facts(library))
        with gr.Tabs() as tabs:
            with gr.Tab("By words", id="words", elem_id="words"), gr.Row(equal_height=True):
                text = gr.Textbox(
                    placeholder="a dog catches a frisbee",
                    show_label=False,
                    label="What to look for",
                    container=False,
                    autofocus=True,
                    scale=8,
                    min_width=300,  # a separate line on a phone
                    max_length=MAX_TEXT,
                    elem_id="text",
                )
                search_in = gr.Dropdown(
                    _SEARCH_IN,
                    value="",
                    label="Where to look",
                    container=False,
                    filterable=False,
                    scale=2,
                    min_width=170,
                    elem_id="search-in",
                )
                search = gr.Button("Search", variant="primary", scale=1, min_width=110, elem_id="search")
            with gr.Tab("By a clip", id="clip", elem_id="clip"):
                clip = gr.File(label=f"A video, {accepted}", elem_id="clip-file", **upload)
                search_clip = gr.Button("Search with this clip", variant="primary", elem_id="clip-search")
            if library.uploads is not None:
                with gr.Tab("Add videos", id="add", elem_id="add"):
                    videos = gr.File(
                        label=f"Videos, {accepted} each",
                        file_count="multiple",
                        elem_id="add-file",
                        **upload | {"file_types": [*upload["file_types"], *SUBTITLE_SUFFIXES]},
                    )
                    add = gr.Button("Add to the index", variant="primary", elem_id="add-button")
                    message = gr.HTML(elem_id="added")
                    added = gr.HTML(_added(library), elem_id="added-list", js_on_load=read_template("app/added.js"))
        filter = gr.Textbox(
            placeholder="Only videos with these words, such as 2024 or league=women",
            show_label=False,
            label="Only videos with these words in their name, folder or metadata",
            container=False,
            max_length=MAX_FILTER,
            elem_id="filter",
        )
        hits = gr.HTML(elem_id="hits", js_on_load=read_template("app/hits.js"))
        explanation = gr.HTML(elem_id="explanation", js_on_load=read_template("app/explanation.js"))

        def find(words: str | None, words_of_videos: str | None, where: str | None) -> str:
            return _results(library, Query.of_fields(words, words_of_videos, where))

        def find_by_clip(file: str | None, words_of_videos: str | None) -> str:
            query = Query.of_fields("", words_of_videos)
            return _results(library, replace(query, clip=library.remember_clip(file)))

        def go(event: gr.EventData) -> tuple[Any, ...]:
            """Show the result of an address."""
            return _show(library, str(event.address))

        def arrive(request: gr.Request) -> tuple[Any, ...]:
            """Show the result of the address with which the page was opened."""
            fields = _show(library, urlencode(dict(request.query_params)))
            # The visitor may be typing already, so empty fields are not updated.
            return tuple(gr.skip() if field == "" else field for field in fields)

        def why(event: gr.EventData) -> str:
            query = Query.of_address(str(event.address))
            window = str(event.window)[: _LONGEST_WINDOW + 1]
            return _explanation(query, *library.explain(window, query))

        # The last request is always processed, and the result of an earlier request never replaces its result.
        shown: dict[str, Any] = {"show_progress_on": hits, "api_visibility": "private", "trigger_mode": "always_last"}
        navigation: dict[str, Any] = {
            "outputs": [text, filter, search_in, hits, tabs],
            "concurrency_limit": 4,
            **shown,
        }
        navigations = [page.load(arrive, None, **navigation), hits.go(go, None, **navigation)]
        gr.on(
            [search.click, text.submit, filter.submit, search_in.input],
            _with_error_message(find),
            [text, filter, search_in],
            hits,
            concurrency_limit=4,
            cancels=navigations,
            **shown,
        )
        find_clip = _with_error_message(find_by_clip)
        search_clip.click(find_clip, [clip, filter], hits, concurrency_limit=2, cancels=navigations, **shown)
        hits.explain(_with_error_message(why), None, explanation, api_visibility="private", concurrency_limit=2)
        if library.uploads is not None:

            def add_videos(files: list[str] | None) -> tuple[str, None]:
                if not files:
                    return _message(library.add, None), None
                videos, unmatched = with_subtitles(files)
                messages = [
                    _message(partial(library.add, subtitles=subtitles), video) for video, subtitles in videos.items()
                ]
                return "".join([*messages, *map(_left_out, unmatched)]), None

            def remove_video(event: gr.EventData) -> str:
                return _message(library.remove, str(event.window))

            def refresh(words: str | None, words_of_videos: str | None, where: str | None) -> tuple[Any, ...]:
                """Update the parts of the page that show indexed videos, after a video was added or removed."""
                is_list = not (words or "").strip()
                start = find(words, words_of_videos, where) if is_list else gr.skip()
                return _facts(library), _added(library), start

            changes = (
                add.click(add_videos, videos, [message, videos], concurrency_limit=1, api_visibility="private"),
                added.remove(remove_video, None, message, concurrency_limit=1, api_visibility="private"),
            )
            for change in changes:
                change.then(refresh, [text, filter, search_in], [facts, added, hits], **shown)
            page.load(lambda: _added(library), None, added, api_visibility="private")
        page.load(lambda: _facts(library), None, facts, api_visibility="private")
    return page.queue(max_size=_VISITORS_WAITING)


def theme() -> gr.Theme:
    """Return the colours and fonts of the page. The fonts are part of Gradio, so none is loaded from another site."""
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
    """Return the style sheet of the page."""
    return read_template("style.css") + read_template("app/app.css")


class _Page(gr.Blocks):
    """Page that accepts only uploaded files, identified by the names that [`Guard`] returned.

    A request contains the names of its files. Gradio checks these names only for pages that it serves itself, not for
    a mounted page, and downloads names that are addresses.
    """

    def __init__(self, arrivals: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self._arrivals = arrivals
        self.has_launched = True  # makes Gradio check file names

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Replace the names of uploads by paths, refuse all other files, then call the base class."""
        return await super().preprocess_data(block_fn, _with_files(inputs, self._arrivals), *args, **kwargs)


def _with_files(data: Any, arrivals: Path) -> Any:
    """Return a copy of the data with the names of uploads replaced by their paths."""
    if isinstance(data, list):
        return [_with_files(item, arrivals) for item in data]
    if isinstance(data, dict):
        data = {name: _with_files(item, arrivals) for name, item in data.items()}
        if "path" in data:
            if not re.fullmatch(r"[0-9a-f]{64}/[^/\\\0]{1,255}", str(data["path"])):
                raise gr.Error("A file has to be uploaded.", print_exception=False)
            data["path"] = str(arrivals / data["path"])
    return data


def _with_error_message(answer: Callable[..., str]) -> Callable[..., str]:
    """Wrap a function so that it returns the message of an error as HTML instead of raising the error."""

    @wraps(answer)
    def answer_or_message(*args: Any) -> str:
        try:
            return answer(*args)
        except (ValueError, OSError) as error:
            message = one_line(error)
        except Exception:
            logger.exception("a visitor's request failed")
            message = FAILED
        return render("app/message.html", kind="error", text=message)

    return answer_or_message


@_with_error_message
def _message(act: Callable[[str | None], str], argument: str | None) -> str:
    """Call a function for a visitor, and return its message as HTML."""
    return render("app/message.html", kind="done", text=act(argument))


def _left_out(subtitles: str) -> str:
    text = f"{Path(subtitles).name} is left out: no video of its name was chosen with it."
    return render("app/message.html", kind="error", text=text)


def _show(library: Library, address: str) -> tuple[Any, ...]:
    """Return the updates for an address: the fields, the result and the tab."""
    try:
        query = Query.of_address(address)
    except ValueError as error:
        return "", "", "", render("app/message.html", kind="error", text=one_line(error)), gr.skip()
    tab = gr.Tabs(selected="words") if query.text else gr.skip()
    return query.text, query.filter, query.search_in or "", _with_error_message(_results)(library, query), tab


def _results(library: Library, query: Query) -> str:
    """Return the moments of a query as HTML, or the videos of the index if the query has no text and no clip."""
    if not (query.text or query.clip):
        return _videos(library, query)
    hits = library.search(query)
    catalogue = library.catalogue()
    more = min(query.count + DEFAULT_COUNT, MAX_COUNT)
    is_all = query.everything or bool(query.clip) or query.search_in == "speech"
    return render(
        "app/hits.html",
        query=query,
        query_label=_query_label(library, query),
        hits=hits,
        name=catalogue.name,
        more=replace(query, count=more).address if len(hits) == query.count < more else None,
        everything=None if is_all else replace(query, everything=True).address,
        fits_filter=not query.filter or bool(catalogue.matching(query.filter)),
        has_copies=any(hit.copies for hit in hits),
    )


def _videos(library: Library, query: Query) -> str:
    """Return the start of the page as HTML: the videos of the index, and texts to try."""
    matching = library.catalogue().matching(query.filter)
    more = min(query.count + DEFAULT_COUNT, MAX_COUNT)
    return render(
        "app/start.html",
        query=query,
        total=len(matching),
        videos=library.covers(matching[: query.count]),
        examples=[Query(text=example) for example in library.examples()],
        more=replace(query, count=more).address if len(matching) > query.count < more else None,
    )


def _facts(library: Library) -> str:
    return render("app/facts.html", facts=library.facts())


def _added(library: Library) -> str:
    return render("app/added.html", videos=library.added())


def _query_label(library: Library, query: Query) -> str:
    return f"the clip {library.clip(query.clip).name}" if query.clip else f"“{query.text}”"


def _explanation(query: Query, video: str, explanation: Explanation) -> str:
    weights = explanation.weights[0]
    return render(
        "app/explanation.html",
        number=next(_numbers),
        name=video,
        query_label=f"the clip {explanation.texts[0]}" if query.clip else f"“{explanation.texts[0]}”",
        score=explanation.scores[0],
        selected=explanation.selected_tokens.shape[1] > 0,
        words=None if explanation.words is None else found_words(explanation),
        is_mean=len(weights) > 1 and bool(weights.max() - weights.min() < 1e-6),
        frames=drawn_frames(explanation),
    )
