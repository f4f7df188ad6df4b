"""`ts2net prepare`: write annotations and videos to shards that are streamed in training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..benchmarks import BENCHMARKS, AnnotatedBenchmark
from ..errors import one_line
from .app import ManyValuesCommand, app, stopping_keeps_what_is_done
from .options import Workers

if TYPE_CHECKING:
    from ..data.manifest import Manifest

_LINES_SHOWN = 10


@app.command(cls=ManyValuesCommand)
def prepare(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK",
            help=f"{', '.join(BENCHMARKS)}, or folder for your own videos.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.", show_default=False)],
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the annotation files; for folder the file of the captions, .csv or .jsonl.",
            show_default=False,
        ),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, in subfolders or not.", show_default=False)
    ] = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="SPLIT...",
            help="Splits to prepare.",
            show_default="train, val and test; all of a rendered benchmark",
        ),
    ] = None,
    reencode: Annotated[
        bool,
        typer.Option(
            "--reencode/--no-reencode",
            help="Make videos small: 224 pixels on the short side, 3 frames a second, no sound.",
        ),
    ] = False,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Follow links out of the folder of videos, and links to folders."),
    ] = False,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXTENSION...",
            help="Which file to take where a video has several, such as mp4; the most preferred first.",
            show_default="an error",
        ),
    ] = None,
    skip_empty_captions: Annotated[
        bool,
        typer.Option("--skip-empty-captions", help="Leave out empty captions, and videos that have no other."),
    ] = False,
    num_shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="Files a split.", show_default="8 to 1000 clips a file")
    ] = None,
    num_clips: Annotated[
        int | None,
        typer.Option("--clips", min=1, help="Clips per split of a rendered benchmark.", show_default="its own number"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of the clips, and of rendered clips.")] = 0,
    workers: Workers = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a split that was prepared with other settings.")
    ] = False,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="REPO", help="Dataset repository to push the result to.", show_default=False)
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository private, if it is new.")] = False,
) -> None:
    """Make shards of a benchmark's videos and captions, to be streamed in training and evaluation.

    Stop it whenever you like: the same command goes on where it was, and the result is the same. Repeat it when you
    have found missing videos, and only the shards they belong to are made again; so are those with a video that the
    file system failed to give or that there was no memory for. What is missing, broken or left out is listed in
    SPLIT.json, and in an evaluation the queries of missing and broken videos count as missed; the exit code is 0 as
    long as one video can be used.

    A video's file is called like its id, with or without an extension. Captions of your own videos are a CSV file
    with the columns file and caption, JSON lines with the same, or a text file beside each video.

    **Examples**

        ts2net prepare msrvtt --annotations msrvtt_data --videos msrvtt_data/videos --out msrvtt --reencode

        ts2net prepare moving_things --out moving_things

        ts2net prepare folder --videos clips --annotations captions.csv --out my-clips --push-to-hub me/my-clips
    """
    from ..data.dataset_card import push_prepared
    from ..data.prepare import prepare as make
    from ..hub.repositories import check_repo_id

    if push_to_hub is not None:
        check_repo_id(push_to_hub, "--push-to-hub")
    elif private:
        raise typer.BadParameter("sets how a repository is created, so it needs --push-to-hub", param_hint="--private")
    with stopping_keeps_what_is_done():
        manifests = make(
            benchmark,
            out,
            annotations=annotations,
            videos=videos,
            splits=splits,
            reencode=reencode,
            follow_links=follow_links,
            prefer=prefer or (),
            skip_empty_captions=skip_empty_captions,
            num_shards=num_shards,
            num_clips=num_clips,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            console=Console(stderr=True),
        )
    _report(Console(highlight=False), manifests, out)
    if push_to_hub is None:
        return
    try:
        print(f"pushed to {push_prepared(out, push_to_hub, private=private or None).commit_url}")
    except Exception as error:  # HTTP clients raise different errors
        reason = one_line(error).removesuffix(".")
        raise RuntimeError(
            f"pushing to {push_to_hub} failed: {reason}. All is prepared in {out}; the same command pushes it"
        ) from error


def _report(console: Console, manifests: "list[Manifest]", out: Path) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("split")
    for column in ("videos", "captions", "shards", "missing", "broken", "damaged"):
        table.add_column(column, justify="right")
    for manifest in manifests:
        counts = [manifest.videos, manifest.captions]
        counts += [len(items) for items in (manifest.shards, manifest.missing, manifest.broken, manifest.damaged)]
        table.add_row(manifest.split, *(f"{count:,}" for count in counts))
    console.print(table)
    for manifest in manifests:
        if note := _difference_from_published(manifest):
            console.print(note, soft_wrap=True)
        lists = {
            kind: [f"{remark.video_id}: {remark.reason}" for remark in getattr(manifest, kind)]
            for kind in ("missing", "broken", "damaged", "preferred")
        }
        lists["empty caption left out"] = list(manifest.skipped_captions)
        lists["left out, all captions empty"] = list(manifest.without_captions)
        for kind, lines in lists.items():
            for line in lines[:_LINES_SHOWN]:
                console.print(f"{kind}: {escape(line)}", soft_wrap=True)
            if len(lines) > _LINES_SHOWN:
                rest = len(lines) - _LINES_SHOWN
                console.print(f"... and {rest:,} more, in {escape(str(out / manifest.split))}.json", soft_wrap=True)


def _difference_from_published(manifest: "Manifest") -> str | None:
    """Describe how annotation files differ from the published files. They may be truncated or of another protocol."""
    benchmark = BENCHMARKS.get(manifest.benchmark)
    if not isinstance(benchmark, AnnotatedBenchmark):
        return None
    published = benchmark.splits[manifest.split]
    expected = (published.num_videos, published.num_captions)
    different = [
        f"{count:,} {unit} instead of {number:,}"
        for unit, count, number in zip(("videos", "captions"), manifest.num_listed, expected, strict=True)
        if number is not None and count != number
    ]
    if not different:
        return None
    return (
        f"note: the annotations of {manifest.split} list {' and '.join(different)}; its figures can't be compared "
        "with published ones"
    )
