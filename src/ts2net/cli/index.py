"""`ts2net index`: create or update an index of videos."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..errors import report_error
from .app import app, hush_loading, stopping_keeps_what_is_done
from .hits import printable
from .options import (
    BatchSize,
    Device,
    Json,
    OptionalPrecision,
    OptionalRuntime,
    OptionalWeightType,
    Revision,
    Workers,
)
from .output import print_json

if TYPE_CHECKING:
    from ..search.indexing import IndexReport

_MOST_LISTED = 10


@app.command()
def index(
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="The index: a folder, or an address such as s3://me/index.", show_default=False
        ),
    ],
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS...",
            help="Files, folders, patterns in quotes, or shards that ts2net prepare made.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A model's folder, or a repository on the Hub.", show_default="the index's own"
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            help="Seconds of a window.", show_default="the index's, or else 12 or what the model's frames cover"
        ),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(help="Seconds from one window to the next.", show_default="the index's, or else half a window"),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second.", show_default="the index's, or else 1")] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV file with a column file and others to filter by; a row adds to its video's metadata.",
            show_default=False,
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Find what is damaged in the index, and index the lost videos again."),
    ] = False,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Remove videos from the index whose files are gone.")
    ] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links to other folders, and out of a folder.")
    ] = False,
    workers: Workers = None,
    batch_size: BatchSize = 16,
    device: Device = None,
    dtype: OptionalWeightType = None,
    runtime: OptionalRuntime = None,
    precision: OptionalPrecision = None,
    revision: Revision = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local is this machine; ray a cluster whose machines see the videos under the same paths."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of the cluster, such as 10.0.0.1:6379.", show_default="a Ray of this machine alone"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an index of videos, or bring one up to date.

    Long videos are cut into windows that overlap, so that a result is a moment. Repeat the command when there are new
    or changed videos, and only they are indexed. Stop it whenever you like: the same command goes on where it was, and
    the index never holds half a video, or one twice. Without VIDEOS, an index of an older format is converted.

    A file that was moved or renamed is known by its content and not encoded again, if the folder that it is in now is
    given; ts2net relocate is for whole folders.

    Where files of the index are missing, cut or changed, --repair reads all of it, says which videos are lost, and
    indexes those again whose files are still there. ts2net info --check only looks.

    What is spoken is read from subtitles, .srt and .vtt files beside a video with its name (film.srt, film.en.srt) and
    text inside it, and again when these change. Subtitles that cannot be read are a warning.

    A video that cannot be used is listed with the reason, the others are indexed, and the exit code is 1. It is tried
    again when its file has changed, or at once if the cause may have passed, for instance if it could not be opened.
    Code that comes with a model is never run.

    **Examples**

        ts2net index ~/Videos --model me/my-ts2net --out my-index

        ts2net index ~/Videos 'more/**/*.mkv' --out my-index --drop-missing

        ts2net index --repair --out my-index

        ts2net index prepared/msrvtt --model me/my-ts2net --out my-index --metadata about.csv

        ts2net index /shared/videos --model me/my-ts2net --out s3://me/index --engine ray --ray-address 10.0.0.1:6379

        ts2net index ~/Videos --out my-index --json | jq -r '.broken[] | [.video, .reason] | @tsv'

    **JSON**

        {
          "index": str, "indexed": [str], "replaced": [str], "relabelled": [str], "moved": {str: str},
          "unchanged": [str], "lost": [str], "dropped": [str], "missing": [str],
          "broken": [{"video": str, "reason": str}], "damaged": {str: str}, "spoken": [str],
          "damaged_subtitles": {str: str}, "unmatched_metadata": [str], "hours": float, "seconds": float
        }

    The lists have the paths of videos, where the table has their numbers; "hours" were decoded, and "seconds" taken.
    """
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries must not mix with the results
        from ..search.indexing import index_videos
        from ..search.windows import WindowChoice

        hush_loading()
        with stopping_keeps_what_is_done():
            report = index_videos(
                videos or [],
                model,
                out,
                settings=WindowChoice(window, step, fps),
                metadata=metadata,
                repair=repair,
                drop_missing=drop_missing,
                follow_links=follow_links,
                workers=workers,
                batch_size=batch_size,
                device=device,
                dtype=dtype,
                revision=revision,
                runtime=runtime,
                precision=precision,
                engine=engine,
                ray_address=ray_address,
                console=Console(stderr=True),
            )
    if as_json:
        _print_json(out, report)
    else:
        _print_report(report)
        _print_index(out)
    _warn(
        [
            f"{printable(name)}: its subtitles can't be used: {printable(reason)}"
            for name, reason in report.damaged_subtitles.items()
        ],
        lambda count: f"{count:,} more files have subtitles that can't be used",
    )
    _warn(
        [f"{metadata}: {printable(name)} is none of the videos" for name in report.unmatched_metadata],
        lambda count: f"{metadata}: {count:,} more rows are about none of the videos",
    )
    if videos and not (report.indexed or report.replaced or report.unchanged or report.broken):
        from ..search.sources import no_video_in

        print(f"warning: {no_video_in(videos)}", file=sys.stderr)
    if set(report.lost) - {*report.indexed, *report.replaced}:
        raise typer.Exit(1)
    if report.broken:
        if not (report.indexed or report.replaced or report.unchanged):
            report_error("not one of the videos can be used")
        raise typer.Exit(1)


def _warn(messages: Sequence[str], more: Callable[[int], str]) -> None:
    """Print the first warnings, then `more(n)`, where `n` is the number of warnings left out."""
    shown = [*messages[:_MOST_LISTED]]
    if len(messages) > _MOST_LISTED:
        shown.append(more(len(messages) - _MOST_LISTED))
    for message in shown:
        print(f"warning: {message}", file=sys.stderr)


def _print_json(out: str, report: "IndexReport") -> None:
    broken = [{"video": video.video_id, "reason": video.reason} for video in report.broken]
    print_json({"index": out} | asdict(report) | {"broken": broken})


def _print_report(report: "IndexReport") -> None:
    console = Console(highlight=False)
    console.print(_table(report))
    _list(console, "broken", [(video.video_id, video.reason) for video in report.broken])
    _list(console, "damaged", list(report.damaged.items()))
    again = {*report.indexed, *report.replaced}
    _list(
        console,
        "was damaged",
        [(name, "indexed again" if name in again else "lost, and its file can't be used") for name in report.lost],
    )
    if report.moved:
        console.print(
            f"{len(report.moved):,} moved or renamed videos are known by their content, and not encoded again"
        )
    if report.spoken:
        console.print(f"what is spoken was read from the subtitles of {len(report.spoken):,} videos")
    if report.missing:
        console.print(f"{len(report.missing):,} of its videos are gone; --drop-missing removes them")


def _print_index(out: str) -> None:
    """Print a summary of the index, and a command to try next."""
    from ..search.summary import summarize

    summary = summarize(out)
    size = "" if summary.bytes is None else f", {summary.bytes / 1e6:,.1f} MB"
    console = Console(highlight=False)
    holds = f"{printable(out)}: {summary.videos:,} videos, {summary.num_windows:,} windows{size}"
    console.print(Text(holds), soft_wrap=True)
    if summary.videos:
        console.print(Text(f'next, try: {shlex.join(["ts2net", "search", out])} "a sentence"'), soft_wrap=True)


def _table(report: "IndexReport") -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    counts = {
        "indexed": len(report.indexed),
        "replaced": len(report.replaced),
        "unchanged": len(report.unchanged),
        "dropped": len(report.dropped),
        "broken": len(report.broken),
    }
    for column in (*counts, "hours", "minutes taken"):
        table.add_column(column, justify="right")
    figures = (f"{report.hours:.2f}", f"{report.seconds / 60:.1f}")
    table.add_row(*(f"{count:,}" for count in counts.values()), *figures)
    return table


def _list(console: Console, kind: str, remarks: list[tuple[str, str]]) -> None:
    for name, reason in remarks[:_MOST_LISTED]:
        console.print(f"{kind}: {escape(printable(name))}: {escape(printable(reason))}", soft_wrap=True)
    if len(remarks) > _MOST_LISTED:
        console.print(f"... and {len(remarks) - _MOST_LISTED:,} more, which --json lists")
