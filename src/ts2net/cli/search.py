"""`ts2net search`: sentences in, moments of videos out."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..clock import clock
from ..files import write_whole
from .app import app, hush_loading
from .options import Device, IndexModel, Json, check_output, named_values
from .output import print_json

if TYPE_CHECKING:
    from ..search.hits import Hit


@app.command()
def search(
    index: Annotated[
        str,
        typer.Argument(metavar="INDEX", help="What ts2net index made: a folder or an address.", show_default=False),
    ],
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Sentences to search for.", show_default=False)
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Moments a text.")] = 10,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Look at every window, or at those that the vector index picks.",
            show_default="approximate where there is a vector index, which large indexes have",
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="Only videos whose path fits, such as `*/holidays/*`.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="Only videos of which this is known; may be repeated."),
    ] = None,
    as_json: Json = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a page of pictures that play.", show_default=False),
    ] = None,
    model: IndexModel = None,
    device: Device = None,
) -> None:
    """Find the moments of videos that sentences describe, best first.

    The score is the model's own, whichever way the search goes; windows that overlap a better one are left out. Code
    that comes with a model is never run.

    **Examples**

        ts2net search my-index "a dog catches a frisbee"

        ts2net search my-index "a goal is scored" -k 3 --path '*/2024/*' --where league=women --html goals.html

        ts2net search my-index "rain" "snow" --json | jq '.results[0].hits[0].video'

    **JSON**

        {
          "index": str,
          "results": [{"text": str, "hits": [
            {"video": str, "start": float, "end": float, "second": float, "score": float, "window": str,
             "metadata": {str: str}}
          ]}]
        }

    Times are seconds from the start of the video; "second" is where the best frame is.
    """
    metadata = named_values("--where", where)
    if html is not None:
        check_output("--html", html, "a file for the page")
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints, the answer stays readable
        from ..search.store import Store

        Store.open(index).snapshot().condition(
            path, metadata
        )  # mistakes that need no model are told before torch loads
        from ..search.index import VideoIndex

        hush_loading()
        opened = VideoIndex.open(index, model=model, device=device)
        results = opened.search(texts, k=k, exact=exact, path=path, metadata=metadata)
        if not any(results):
            narrowed = path is not None or metadata
            reason = "no video of it fits --path and --where" if narrowed and len(opened) else "the index is empty"
            print(f"warning: nothing was found: {reason}", file=sys.stderr)
        if html is not None:
            from ..pages.search import Answer, render_search_page

            answers = [Answer(text, hits) for text, hits in zip(texts, results, strict=True)]
            write_whole(html, render_search_page(f"Moments of {Path(index).name or index}", answers))

    if as_json:
        answer: dict[str, Any] = {
            "index": index,
            "results": [
                {"text": text, "hits": [_as_dict(hit) for hit in hits]}
                for text, hits in zip(texts, results, strict=True)
            ],
        }
        print_json(answer)
        return
    console = Console(highlight=False)
    for text, hits in zip(texts, results, strict=True):
        console.print(_table(text, hits))


def _as_dict(hit: "Hit") -> dict[str, Any]:
    names = ("start", "end", "second", "score", "window")
    values = {name: getattr(hit, name) for name in names}
    return {"video": hit.video_id} | values | {"metadata": dict(hit.metadata)}


def _table(text: str, hits: Sequence["Hit"]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(text, style="bold"), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("video", overflow="fold")
    for name in ("from", "to", "best at", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, hit in enumerate(hits, start=1):
        times = [clock(seconds) for seconds in (hit.start, hit.end, hit.second)]
        name = hit.video_id.encode(errors="backslashreplace").decode()
        table.add_row(str(rank), Text(name), *times, f"{hit.score:.2f}")
    return table
