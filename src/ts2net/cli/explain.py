"""`ts2net explain`: draw the frames of a video with their weights and selected patches."""

import contextlib
import sys
from pathlib import Path, PurePath
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..files import whole_file
from .app import ManyValuesCommand, app, hush_loading
from .options import Device, OptionalWeightType, Revision, Texts, check_output, time_option

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@app.command(cls=ManyValuesCommand)
def explain(
    texts: Texts,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PNG", help="The picture to make.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A TS2-Net or a CLIP: its folder, or a repository on the Hub.",
            show_default="the index's own",
        ),
    ] = None,
    video: Annotated[str | None, typer.Option("--video", "-v", help="Path or address of the video.")] = None,
    index: Annotated[str | None, typer.Option("--index", help="Explain a moment of this index, not a video.")] = None,
    window: Annotated[
        str | None, typer.Option("--window", help='The moment: "window" in the JSON of ts2net search.')
    ] = None,
    start: Annotated[float | None, time_option("Where a moment of the video begins, in seconds or as 20:08.")] = None,
    end: Annotated[float | None, time_option("Where it ends.")] = None,
    shifted: Annotated[
        bool, typer.Option("--shifted", help="Also mark the tokens that frames take from their neighbours.")
    ] = False,
    font: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A font that has the letters of the texts.  [default: one that is installed]"
        ),
    ] = None,
    device: Device = None,
    dtype: OptionalWeightType = None,
    revision: Revision = None,
) -> None:
    """Draw where the model looked in a video for some texts.

    The picture has the frames that the model saw, with their times, how much each weighed in the score of each text,
    and outlined the patches that it selected. Code that comes with a model is never run.

    **Examples**

        ts2net explain --model demo/model --video a.mp4 --text "a dog catches a frisbee" --out why.png

        ts2net explain -m me/my-ts2net -v a.mp4 -t "rain" --start 20:08 --end 20:20 --shifted -o why.png

        ts2net explain --index my-index --window 5e1c0f6a9b3d2784-000006 --text "rain" --out why.png
    """
    _check_source(model, video, index, window, start is not None or end is not None)
    _check_out(out)
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries
        if index is not None:  # report a missing index before torch is imported
            from ..search.store import Store

            Store.open(index)
        from ..explanation import explain as explain_video
        from ..explanation.figure import draw_explanation, read_font
        from ..hub.loading import load_model

        if font is not None:
            read_font(font)
        hush_loading()
        if index is not None and window is not None:
            from ..app.explaining import explain_window
            from ..search.index import VideoIndex

            about = VideoIndex.open(index).about
            if model is None:
                model, revision = about.model, about.revision
            network, processor = load_model(model, revision=revision, dtype=dtype or about.dtype, device=device)
            opened = VideoIndex.open(index, model=network, processor=processor)
            video, explanation = explain_window(opened, window, texts, network, processor)
        else:
            assert model is not None
            assert video is not None
            network, processor = load_model(model, revision=revision, dtype=dtype or "auto", device=device)
            explanation = explain_video(network, processor, video, texts, start=start, end=end)
        picture = draw_explanation(explanation, title=_file_name(video), shifted=shifted, font=font)
    with whole_file(out) as partial:
        picture.save(partial, "PNG")


def _check_source(model: str | None, video: str | None, index: str | None, window: str | None, times: bool) -> None:
    """Check that the options name either a model and a video, or an index and a window."""
    if (index is None) != (window is None):
        raise typer.BadParameter("name a moment of an index with both --index and --window", param_hint="--index")
    if index is None and (model is None or video is None):
        raise typer.BadParameter("name --model and --video, or --index and --window", param_hint="--video")
    if index is not None and (video is not None or times):
        raise typer.BadParameter(
            "a window of an index has its own video, start and end: leave out --video, --start and --end",
            param_hint="--index",
        )


def _file_name(video: str) -> str:
    """Return the last part of a path or address. The rest may contain names and secrets, and pictures are shared."""
    path = urlsplit(video).path if "://" in video else video
    return PurePath(path).name or video.partition("://")[0]


def _check_out(file: Path) -> None:
    """Check, before any work, that the picture can be written and would only replace another PNG file."""
    if file.suffix.lower() != ".png" and not file.is_dir():
        raise typer.BadParameter(f"expected a file that ends in .png, got {file}", param_hint="--out")
    check_output("--out", file, "a PNG file")
    if file.exists():
        with file.open("rb") as content:
            if content.read(len(_PNG_SIGNATURE)) not in (b"", _PNG_SIGNATURE):
                raise FileExistsError(f"--out: {file} exists and is no PNG file; it is not replaced")
