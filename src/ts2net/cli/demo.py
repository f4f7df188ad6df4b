"""`ts2net demo`: everything once, with no network."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .app import ManyValuesCommand, app, hush_loading


@app.command(cls=ManyValuesCommand)
def demo(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A folder or Hub repository.", show_default="an untrained one is made"),
    ] = None,
    videos: Annotated[
        list[str] | None,
        typer.Option(
            "--videos",
            "--video",
            "-v",
            metavar="VIDEO...",
            help="Paths or addresses of videos.",
            show_default="clips are rendered",
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--text", "-t", metavar="TEXT...", help="Sentences to score.", show_default="the captions of the clips"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("demo"),
) -> None:
    """See it work: from a CLIP to a Hub folder to scored mp4 files, with no network.

    The folder is loaded in a process of its own with the code beside its weights, as people without ts2net would
    load it. So give --model only what you trust.

    **Examples**

    ts2net demo

        ts2net demo --model me/my-ts2net --videos clips/*.mp4 --text "a dog catches a frisbee" "a man slices bread"
    """
    from ..demo import run_demo

    hush_loading()
    if not run_demo(Console(highlight=False), out, model, videos, texts):
        raise typer.Exit(1)
