"""`ts2net prepare`: from annotations and videos to shards that are streamed in training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .app import ManyValuesCommand, app
from .options import Workers

if TYPE_CHECKING:
    from ..data.shards import Manifest

_REMARKS_SHOWN = 10


@app.command(cls=ManyValuesCommand)
def prepare(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK",
            help="msrvtt, vatex, lsmdc, activitynet, didemo, motion_shapes, or folder for your own videos.",
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
            "--split", metavar="SPLIT...", help="What to prepare.", show_default="train, val and test, as there are"
        ),
    ] = None,
    reencode: Annotated[
        bool,
        typer.Option(
            "--reencode/--no-reencode",
            help="Make videos small: 224 pixels on the short side, 3 frames a second, no sound.",
        ),
    ] = False,
    num_shards: Annotated[
        int | None, typer.Option("--shards", min=1, help="Files a split.", show_default="8 to 1000 clips a file")
    ] = None,
    num_clips: Annotated[
        int | None, typer.Option("--clips", min=1, help="Clips a split of motion_shapes.", show_default="2000 or 200")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the clips, and of motion_shapes.")] = 0,
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make anew what has other settings.")] = False,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="REPO", help="Dataset repository to push it all to.", show_default=False)
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository private, if it is new.")] = False,
) -> None:
    """Make shards of a benchmark's videos and captions, to be streamed in training and evaluation.

    Stop it whenever you like: the same command goes on where it was, and the result is the same. Repeat it when you
    have found missing videos, and only the shards they belong to are made again; so are those with a video that the
    file system failed to give or that there was no memory for. What is missing or broken is listed in SPLIT.json.

    A video's file is called like its id, with or without an extension. Captions of your own videos are a CSV file
    with the columns file and caption, JSON lines with the same, or a text file beside each video.

    **Examples**

        ts2net prepare msrvtt --annotations msrvtt_data --videos msrvtt_data/videos --out msrvtt --reencode

        ts2net prepare motion_shapes --out motion_shapes

        ts2net prepare folder --videos clips --annotations captions.csv --out my-clips --push-to-hub me/my-clips
    """
    from ..data.dataset_card import push_prepared
    from ..data.prepare import prepare as make
    from ..hub.repositories import check_repo_id

    if push_to_hub is not None:
        check_repo_id(push_to_hub, "--push-to-hub")
    elif private:
        raise typer.BadParameter("says how to make a repository, so it needs --push-to-hub", param_hint="--private")
    try:
        manifests = make(
            benchmark,
            out,
            annotations=annotations,
            videos=videos,
            splits=splits,
            reencode=reencode,
            num_shards=num_shards,
            num_clips=num_clips,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            console=Console(stderr=True),
        )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    _report(Console(highlight=False), manifests, out)
    if push_to_hub is not None:
        print(f"pushed to {push_prepared(out, push_to_hub, private=private or None).commit_url}")


def _report(console: Console, manifests: "list[Manifest]", out: Path) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("split")
    for column in ("videos", "captions", "shards", "missing", "broken", "damaged"):
        table.add_column(column, justify="right")
    for manifest in manifests:
        counts = [manifest.videos, manifest.captions]
        counts += [len(list_) for list_ in (manifest.shards, manifest.missing, manifest.broken, manifest.damaged)]
        table.add_row(manifest.split, *(f"{count:,}" for count in counts))
    console.print(table)
    for manifest in manifests:
        for kind in ("missing", "broken", "damaged"):
            remarks = getattr(manifest, kind)
            for remark in remarks[:_REMARKS_SHOWN]:
                console.print(f"{kind}: {escape(remark.id)}: {escape(remark.reason)}", soft_wrap=True)
            if len(remarks) > _REMARKS_SHOWN:
                rest = len(remarks) - _REMARKS_SHOWN
                console.print(f"... and {rest:,} more, in {escape(str(out / manifest.split))}.json", soft_wrap=True)
