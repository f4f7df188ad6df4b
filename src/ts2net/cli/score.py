"""`ts2net score`: texts against videos."""

import contextlib
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from ..errors import one_line, report_error
from ..tables import best_first, rankings, score_matrix
from .app import ManyValuesCommand, app, hush_loading
from .options import Device, Json, Model, Revision, Texts, WeightType
from .output import print_json


@app.command(cls=ManyValuesCommand)
def score(
    model: Model,
    videos: Annotated[
        list[str],
        typer.Option("--video", "--videos", "-v", metavar="VIDEO...", help="Paths or addresses of videos."),
    ],
    texts: Texts,
    as_json: Json = False,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="List only the best K videos of each text.")
    ] = None,
    best_second: Annotated[
        bool, typer.Option("--best-second", help="Also say at which second of each video a text fits best.")
    ] = False,
    device: Device = None,
    dtype: WeightType = "auto",
    revision: Revision = None,
) -> None:
    """Score texts against videos: the higher, the better they fit.

    A video that cannot be read is reported, the others are scored, and the exit code is 1. Code that comes with a
    model is never run.

    **Examples**

        ts2net score --model demo/model --video a.mp4 --text "a dog catches a frisbee" --text "a man slices bread"

        ts2net score --model me/my-ts2net --video clips/*.mp4 --text "a goal is scored" --top-k 5 --best-second

        ts2net score --model me/my-ts2net --video a.mp4 b.mp4 --text "rain" --json | jq '.results[0].videos[0].video'

    **JSON**

        {
          "model": str,
          "results": [{"text": str, "videos": [{"video": str, "score": float, "second": float}]}],
          "errors": [{"video": str, "error": str}]
        }

    There is one result a text, in the order given, and its videos come best first. "second" is there with
    --best-second.
    """
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints, the answer stays readable
        from ..hub.loading import load_model
        from ..scoring import Scorer

        hush_loading()
        scorer = Scorer(*load_model(model, revision=revision, dtype=dtype, device=device), texts)

        scored, errors = [], []
        for video in _with_progress(videos):
            try:
                scored.append((video, scorer.score(video)))
            except (ValueError, OSError) as error:
                errors.append({"video": video, "error": one_line(error)})
                report_error(errors[-1]["error"])

    names = [video for video, _ in scored]
    scores = [[row.scores[place] for _, row in scored] for place in range(len(texts))]  # one row a text
    seconds = [[row.seconds[place] for _, row in scored] for place in range(len(texts))] if best_second else None
    if as_json:
        results = []
        for place, text in enumerate(texts):
            ranking = [
                {"video": names[column], "score": scores[place][column]}
                | ({} if seconds is None else {"second": seconds[place][column]})
                for column in best_first(scores[place])[:top_k]
            ]
            results.append({"text": text, "videos": ranking})
        print_json({"model": model, "results": results, "errors": errors})
    elif scored:
        console = Console(highlight=False)
        if top_k is None and not best_second:
            console.print(score_matrix(console, texts, names, scores))
        else:
            console.print(rankings(texts, names, scores, seconds, top_k))
    if errors:
        raise typer.Exit(1)


def _with_progress(videos: list[str]) -> Any:
    console = Console(stderr=True)
    hidden = len(videos) == 1 or not console.is_terminal
    return track(videos, "scoring", console=console, transient=True, disable=hidden)
