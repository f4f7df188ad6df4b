"""`ts2net demo`: run every step once, without a network."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .app import ManyValuesCommand, app, hush_loading


@app.command(cls=ManyValuesCommand)
def demo(
    texts: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", metavar="TEXT...", help="What to search for.", show_default="a few sentences"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A folder or Hub repository.", show_default="a small one is trained"),
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
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("demo"),
    serve: Annotated[bool, typer.Option("--serve", help="Then open the clips on the page of `ts2net app`.")] = False,
) -> None:
    """See it work: clips, training, recalls, a Hub folder, an index, and a page of answers, with no network.

    It takes a few minutes. Stopped and run again, it goes on where it was; once all is there, only the searching is
    done again.

    With --model and --videos nothing is made, and the texts are scored against the videos. In either case the model
    is loaded in a process of its own with the code beside its weights, as people without ts2net would load it. So give
    --model only what you trust.

    **Examples**

        ts2net demo

        ts2net demo --text "a cat moves left" "a small key appears"

        ts2net demo --serve

        ts2net demo --model me/my-ts2net --videos clips/*.mp4 --text "a dog catches a frisbee" "a man slices bread"
    """
    console = Console(highlight=False)
    hush_loading()
    if model is None and videos is None:
        if serve:  # report a missing library now, not after minutes
            import uvicorn  # noqa: F401

            from ..app import create_app  # noqa: F401
        from ..demo.run import run_demo

        run_demo(console, out, texts)
        if serve:
            from .serve import serve as serve_index

            serve_index(str(out / "index"), read_only=True)
        return
    if serve:
        raise typer.BadParameter("--serve shows the demo's own clips: give it without --model and --videos")
    if model is None or not videos or not texts:
        raise typer.BadParameter("--model, --videos and --text are needed together, to score videos of your own")

    from ..demo.own_videos import score_own_videos

    if not score_own_videos(console, out, model, videos, texts):
        raise typer.Exit(1)
