"""`ts2net info`, `list`, `remove` and `relocate`: show or change the content of an index without its model."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..clock import clock
from .app import app
from .hits import printable
from .options import Json, PathPattern, Where, named_values
from .output import print_json

if TYPE_CHECKING:
    from ..search.records import StoredVideo
    from ..search.snapshot import Snapshot

_MOST_LISTED = 10
Index = Annotated[str, typer.Argument(metavar="INDEX", help="The index: a folder or an address.", show_default=False)]


@app.command()
def info(
    index: Index,
    check: Annotated[
        bool, typer.Option("--check", help="Read all of it instead, and name the videos that are damaged in it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what an index holds and what it was made with.

    With --check every window and every file is compared with its checksum instead. If something is damaged the exit
    code is 1, and `ts2net index --repair --out INDEX` repairs it.

    **JSON**

        {"index": str, "model": str, "revision": str | null, "dtype": str, "windows": str, "videos": int,
         "num_windows": int, "num_spoken": int, "hours": float, "broken": int, "metadata": [str],
         "vector_index": bool, "bytes": int | null}

    With --check:

        {"num_windows": int, "unreadable": int, "changed": int, "unchecked": int, "damaged": [str],
         "files": [str], "unchecked_files": int}

    The first are numbers of windows, and "damaged" has the paths of their videos; "files" are those of the index that
    differ from what was written. Windows and files of an index of an older version have no checksum and are
    "unchecked" until something is added.
    """
    if check:
        _check(index, as_json)
        return
    from ..search.summary import summarize

    summary = summarize(index)
    if as_json:
        print_json(asdict(summary))
        return
    at = f" at {summary.revision}" if summary.revision else ""
    facts = {
        "model": f"{summary.model}{at}, {summary.dtype}",
        "videos": f"{summary.videos:,}, {summary.hours:.2f} hours",
        "windows": f"{summary.num_windows:,}, of {summary.windows}",
        "spoken words": f"in {summary.num_spoken:,} windows" if summary.num_spoken else "none: there are no subtitles",
        "can't be used": f"{summary.broken:,} videos; ts2net list --broken names them" if summary.broken else "none",
        "metadata": ", ".join(summary.metadata) or "none",
        "vector index": "yes" if summary.vector_index else "no: every window is scored",
        "size": "on object storage" if summary.bytes is None else f"{summary.bytes / 1e6:,.1f} MB",
    }
    console = Console(highlight=False)
    for name, fact in facts.items():
        console.print(Text(f"{name:<14} {printable(fact)}"), soft_wrap=True)


def _check(index: str, as_json: bool) -> None:
    from ..search.repairing import check_index

    damage = check_index(index)
    if as_json:
        counts = {name: getattr(damage, name) for name in ("num_windows", "unreadable", "changed", "unchecked")}
        files = {"files": list(damage.files), "unchecked_files": damage.unchecked_files}
        print_json(counts | {"damaged": list(damage.lost)} | files)
    else:
        for video_id in damage.lost:
            print(f"damaged: {printable(video_id)}")
        if damage.unnamed:
            print(f"damaged: {damage.unnamed:,} windows of videos that can't be named")
        for file in damage.files:
            print(f"changed file of the index: {file}")
        if damage.unchecked_files:
            print(f"{damage.unchecked_files:,} files of the index have no checksum until something is added")
        bad = damage.unreadable + damage.changed
        without = f", {damage.unchecked:,} of them without a checksum" if damage.unchecked else ""
        print(f"{damage.num_windows:,} windows were read{without}; {bad:,} are damaged")
    if damage:
        raise typer.Exit(1)


@app.command("list")
def list_videos(
    index: Index,
    path: PathPattern = None,
    where: Where = None,
    broken: Annotated[bool, typer.Option("--broken", help="List the videos that can't be indexed, and why.")] = False,
    as_json: Json = False,
) -> None:
    """List the videos of an index, one a line: how long it is, and its path.

    **Examples**

        ts2net list my-index --path '*/2024/*'

        ts2net list my-index --json | jq -r '.videos[].video'

    **JSON**

        {"videos": [{"video": str, "seconds": float, "metadata": {str: str}}]}

    With --broken, "videos" are {"video": str, "reason": str}.
    """
    from ..search.store import Store

    metadata = named_values("--where", where)
    store = Store.open(index)
    if broken:
        if path is not None or metadata:
            raise typer.BadParameter("lists all: leave out --path and --where", param_hint="--broken")
        unusable = store.broken()
        if as_json:
            print_json({"videos": [{"video": video.video_id, "reason": video.reason} for video in unusable]})
        else:
            for broken_video in unusable:
                print(f"{printable(broken_video.video_id)}: {printable(broken_video.reason)}")
        return
    snapshot = store.snapshot()
    videos = snapshot.videos(snapshot.choose(path, metadata))
    if as_json:
        print_json(
            {
                "videos": [
                    {"video": video.video_id, "seconds": video.duration, "metadata": dict(video.metadata)}
                    for video in videos
                ]
            }
        )
        return
    for video in videos:
        print(f"{clock(video.duration):>9}  {printable(video.video_id)}")


@app.command()
def remove(
    index: Index,
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO...", help="Paths of indexed videos, or patterns in quotes.", show_default=False),
    ],
) -> None:
    """Remove videos from an index. Their files stay as they are.

    A video whose file is still in an indexed folder is indexed again when `ts2net index` is run with that folder.

    **Examples**

        ts2net remove my-index ~/Videos/a.mp4 '*/2019/*'
    """
    from ..search.store import Store

    with Store.write(index) as store:
        snapshot = store.snapshot()
        chosen = {video.video_id for name in videos for video in _named(snapshot, name)}
        store.drop(sorted(chosen))
    print(f"removed {len(chosen):,} of {len(snapshot.video_ids()):,} videos from {index}")


@app.command("relocate")
def relocate_videos(
    index: Index,
    root: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the videos are now.", show_default=False)],
    old: Annotated[
        str | None,
        typer.Option("--from", metavar="FOLDER", help="Where they were.", show_default="the folder that all are in"),
    ] = None,
) -> None:
    """Say where the videos of an index are now, after their folder was moved or the index was carried elsewhere.

    Nothing is decoded, and names of windows stay. Files that differ from those that were indexed are named, and the
    exit code is 1; `ts2net index` brings them up to date.

    **Examples**

        ts2net relocate my-index /media/disk/Videos

        ts2net relocate my-index ~/Films --from /home/me/Videos/films
    """
    from ..search.relocating import relocate

    done = relocate(index, root, old)
    print(f"{done.moved:,} videos of {printable(done.old)} are in {printable(done.new)} now")
    for kind, names in (("missing", done.missing), ("changed", done.changed)):
        for name in names[:_MOST_LISTED]:
            print(f"{kind}: {printable(name)}")
        if len(names) > _MOST_LISTED:
            print(f"... and {len(names) - _MOST_LISTED:,} more that are {kind}")
    if done.missing or done.changed:
        raise typer.Exit(1)


def _named(snapshot: "Snapshot", name: str) -> "list[StoredVideo]":
    """Return the indexed videos that match a path or a pattern.

    Raises:
        FileNotFoundError: If no video matches.
    """
    for video_id in (name, os.path.abspath(os.path.expanduser(name))):
        video = snapshot.video(video_id)
        if video is not None:
            return [video]
    videos = snapshot.videos(snapshot.choose(name))
    if not videos:
        raise FileNotFoundError(f"{name}: no video of {snapshot.path} has this path or fits this pattern")
    return videos
