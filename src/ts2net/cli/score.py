"""`ts2net score`: score texts against videos."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from ..errors import one_line, report_error
from ..tables import best_first, rankings, score_matrix
from .app import ManyValuesCommand, app, hush_loading
from .options import Device, Json, Model, Precision, Revision, Runtime, Texts, WeightType
from .output import print_json

if TYPE_CHECKING:
    from ..pipeline_ts2net import VideoScores


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
    runtime: Runtime = "torch",
    precision: Precision = None,
    revision: Revision = None,
) -> None:
    """Score texts against videos: a higher score is a better match.

    A video that cannot be read is reported and left out; the others are scored, and the exit code is 1. Code beside a
    model's weights never runs.

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

    There is one result per text, in their order, with its videos best first. "second" is there with --best-second.
    """
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries must not mix with the results
        from ..scoring import TextVideoScorer

        hush_loading()
        scorer = TextVideoScorer(
            model, revision=revision, dtype=dtype, device=device, runtime=runtime, precision=precision
        )
        scored, errors = [], []
        results = scorer.stream(videos, texts, on_error="skip")
        for video, result in zip(videos, _with_progress(results, len(videos)), strict=True):
            if result.error is None:
                scored.append((video, result))
            else:
                errors.append({"video": video, "error": one_line(result.error)})
                report_error(errors[-1]["error"])

    names = [video for video, _ in scored]
    scores = [[result.scores[index] for _, result in scored] for index in range(len(texts))]  # one row per text
    seconds = [[result.seconds[index] for _, result in scored] for index in range(len(texts))] if best_second else None
    if as_json:
        texts_as_json = []
        for index, text in enumerate(texts):
            ranking = [
                {"video": names[column], "score": scores[index][column]}
                | ({} if seconds is None else {"second": seconds[index][column]})
                for column in best_first(scores[index])[:top_k]
            ]
            texts_as_json.append({"text": text, "videos": ranking})
        print_json({"model": model, "results": texts_as_json, "errors": errors})
    elif scored:
        console = Console(highlight=False)
        if top_k is None and not best_second:
            console.print(score_matrix(console, texts, names, scores))
        else:
            console.print(rankings(texts, names, scores, seconds, top_k))
    if errors:
        raise typer.Exit(1)


def _with_progress(results: "Iterator[VideoScores]", count: int) -> "Iterable[VideoScores]":
    console = Console(stderr=True)
    hidden = count == 1 or not console.is_terminal
    return track(results, "scoring", count, console=console, transient=True, disable=hidden)
