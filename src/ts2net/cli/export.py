"""`ts2net export`: export a model as ONNX files."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..lazy import missing_library
from .app import app, hush_loading
from .options import Revision


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model's folder, or a repository on the Hub.", show_default=False),
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder to write in; the model's own will do.", show_default=False),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Also write int8 files: a quarter of the size and faster; scores differ slightly."
        ),
    ] = False,
    revision: Revision = None,
) -> None:
    """Write a model as ONNX files: a video tower and a text tower, for any number of videos, frames, texts and words.

    The files are named as transformers.js and optimum expect them, `onnx/NAME.onnx` and `onnx/NAME_quantized.onnx`,
    and can be pushed beside the weights.

    **Examples**

        ts2net export demo/model exported --int8

        ts2net export me/my-ts2net exported
    """
    with contextlib.redirect_stdout(sys.stderr):  # the exporter prints messages
        try:
            from ..encoding.onnx_export import export_onnx
            from ..hub.loading import load_model

            hush_loading()
            network, processor = load_model(model, revision=revision, dtype="float32", device="cpu")
            print("exporting, which takes half a minute or so", file=sys.stderr)
            files = export_onnx(network, processor, folder, int8=int8)
        except ModuleNotFoundError as error:
            raise ImportError(missing_library(error) or str(error)) from error
    for file in files:
        print(f"{file}  {file.stat().st_size / 2**20:.1f} MiB")
