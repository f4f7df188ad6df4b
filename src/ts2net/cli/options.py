"""Options shared by several commands, and checks of their values.

A command defines its own option if the option differs in any detail.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..clock import parse_clock
from ..files import check_writable
from ..named_values import parse_named_values

Model = Annotated[
    str, typer.Option("--model", "-m", help="A TS2-Net or a CLIP: its folder, or a repository on the Hub.")
]
IndexModel = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Where the index's model is now.", show_default="where the index says"),
]
Texts = Annotated[list[str], typer.Option("--text", "-t", metavar="TEXT...", help="Sentences to score.")]
Device = Annotated[
    str | None,
    typer.Option(help="Device, such as cpu or cuda:1.", show_default="a GPU if there is one"),
]
DType = Literal["auto", "float32", "bfloat16", "float16"]
WeightType = Annotated[DType, typer.Option("--dtype", help="Type of the weights; auto is the checkpoint's own.")]
OptionalWeightType = Annotated[
    DType | None,
    typer.Option(
        "--dtype", help="Type of the weights; auto is the checkpoint's own.", show_default="the index's, or else auto"
    ),
]
Runtime = Annotated[
    Literal["torch", "onnx"],
    typer.Option(help="Runtime; onnx is faster on a CPU, and exports the model the first time."),
]
OptionalRuntime = Annotated[
    Literal["torch", "onnx"] | None,
    typer.Option(
        help="Runtime; onnx is faster on a CPU, and exports the model the first time.",
        show_default="onnx for a large model on a CPU if it is installed",
    ),
]
Precision = Annotated[
    Literal["float32", "int8"] | None,
    typer.Option(help="int8 is faster with onnx; scores differ slightly.", show_default="float32"),
]
OptionalPrecision = Annotated[
    Literal["float32", "int8"] | None,
    typer.Option(
        help="int8 is faster with onnx; scores differ slightly.", show_default="the index's, or else float32"
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the model's repository.", show_default="main")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that decode videos; 0 is this one only, which a hostile video may hold up.",
        show_default="one a core",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Videos or windows encoded at a time, by each process.")]
PathPattern = Annotated[
    str | None,
    typer.Option("--path", metavar="GLOB", help="Only videos whose path fits, such as `*/holidays/*`."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="NAME=VALUE", help="Only videos with this metadata; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs; see above.")]


def _time(text: str) -> float:
    try:
        return parse_clock(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def time_option(help: str) -> typer.models.OptionInfo:
    """Create an option for a time in a video, given in seconds or as `20:08`."""
    option: typer.models.OptionInfo = typer.Option(help=help, parser=_time, metavar="TIME")
    return option


def named_values(option: str, arguments: list[str] | None, form: str = "NAME=VALUE") -> dict[str, str]:
    """Read the values of a repeatable `NAME=VALUE` option.

    Raises:
        typer.BadParameter: If an argument has another form, or two arguments give different values for a name.
    """
    try:
        return parse_named_values(arguments or [], form)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def check_output(option: str, file: Path, content: str) -> None:
    """Check, before any work, that the file named by an option can be written.

    Args:
        option: Name of the option, such as `--out`.
        file: Value of the option.
        content: Description of the file, such as "a PNG file".

    Raises:
        OSError: Same as in [`check_writable`], with the option in the message.
    """
    try:
        check_writable(file, content)
    except OSError as error:
        raise type(error)(f"{option}: {error}") from None
