"""Parts shared by all commands: the application, options with several values, and the output of libraries."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from .. import __version__
from ..interruption import ctrl_c_noticed

# The commands in the order in which a new user needs them.
_ORDER = (
    "demo",
    "score",
    "index",
    "search",
    "explain",
    "app",
    "info",
    "list",
    "remove",
    "prepare",
    "evaluate",
    "convert",
    "export",
    "merge",
)


class _OrderedCommands(TyperGroup):
    """Command group that lists the commands of `_ORDER` first, then the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


# Markdown removes the stars of a pattern in a help text, except between backticks and in indented blocks.
app = typer.Typer(
    cls=_OrderedCommands,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Text-video retrieval with TS2-Net: which text says what a video shows.",
)


class ManyValuesCommand(TyperCommand):
    """A command whose repeatable options accept several values, as a shell expands `--video *.mp4` to.

    Only an option of the command ends the list of values, because a file name may begin with a dash.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, then parse as usual.

        Raises:
            typer.BadParameter: If a repeatable option has no value.
        """
        params = self.get_params(ctx)
        options = {"--", *(name for param in params for name in [*param.opts, *param.secondary_opts])}
        repeatable = {name for param in params if getattr(param, "multiple", False) for name in param.opts}
        expanded: list[str] = []
        option = None
        for previous, arg in zip([None, *args], args, strict=False):
            # Outside a run of values, the parser handles arguments that begin with a dash.
            if arg.partition("=")[0] in options or (option is None and arg.startswith("-")):
                if option is not None and previous == option:
                    raise typer.BadParameter(f"needs a value, but {arg} follows", ctx=ctx, param_hint=option)
                option = arg if arg in repeatable else None
            elif option is not None and previous != option:
                expanded.append(option)
            expanded.append(arg)
        return super().parse_args(ctx, expanded)


def hush_loading() -> None:
    """Hide progress bars for loading and saving weights, but keep them for downloads, which take minutes."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()  # also disables the progress bars of the Hub
    if "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        enable_progress_bars()


@contextlib.contextmanager
def stopping_keeps_what_is_done() -> Iterator[None]:
    """Context in which Ctrl-C exits with a message that the same command resumes the work."""
    try:
        with ctrl_c_noticed():
            yield
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None


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
    # Libraries read these variables when they are imported; child processes inherit the variables.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = _print_warning
    # The encoding of a terminal or file may not have every character of a text or a file name.
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
