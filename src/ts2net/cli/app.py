"""What every command shares: the application itself, options with several values, and quiet libraries."""

import io
import os
import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from .. import __version__

# The commands in the order in which a new user needs them.
_ORDER = ("demo", "score", "index", "search", "explain", "app", "prepare", "evaluate", "convert")


class _OrderedCommands(TyperGroup):
    """Lists commands in the order of use; one that isn't in it comes last."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


# In Markdown, stars of a pattern in a help text stay only between backticks or in an indented block.
app = typer.Typer(
    cls=_OrderedCommands,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Text-video retrieval with TS2-Net: which text says what a video shows.",
)


class ManyValuesCommand(TyperCommand):
    """A command whose repeatable options may be followed by several values: a shell makes such of `--video *.mp4`.

    The values end at the next option of the command, and at nothing else: a file's name may begin with a dash.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the option before each of its values, then parse as usual.

        Raises:
            typer.BadParameter: If a repeatable option has no value.
        """
        params = self.get_params(ctx)
        known = {"--", *(name for param in params for name in [*param.opts, *param.secondary_opts])}
        repeatable = {name for param in params if getattr(param, "multiple", False) for name in param.opts}
        spelled_out: list[str] = []
        option = None
        for previous, arg in zip([None, *args], args, strict=False):
            # Outside of a run of values, what begins with a dash is left to the parser to know or refuse.
            if arg.partition("=")[0] in known or (option is None and arg.startswith("-")):
                if option is not None and previous == option:
                    raise typer.BadParameter(f"needs a value, but {arg} follows", ctx=ctx, param_hint=option)
                option = arg if arg in repeatable else None
            elif option is not None and previous != option:
                spelled_out.append(option)
            spelled_out.append(arg)
        return super().parse_args(ctx, spelled_out)


def hush_loading() -> None:
    """Keep the bars of loading and saving weights off the screen; those of downloads stay, for they take minutes."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()  # the Hub's too
    if "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        enable_progress_bars()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ts2net {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # Read when the libraries are imported, and handed on to child processes.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = _print_warning
    # Not every terminal or file can take every character of a text or a file's name.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)
