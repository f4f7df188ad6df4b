"""The command `ts2net`: a thin face that parses, calls and prints.

Notable here: torch and transformers are imported inside the commands, so that `--help` answers at once. Answers go to
standard output and everything else to standard error. Exit codes: 0 is done, 1 failed, 2 is a wrong command line, 130
is Ctrl-C.
"""

import codecs
import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer
from rich.console import Console
from rich.progress import track
from typer.core import TyperCommand

from . import __version__
from .errors import one_line, report_error
from .tables import best_first, rankings, score_matrix

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Text-video retrieval with TS2-Net: which text says what a video shows.",
)
convert_app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Turn other people's weights into a TS2-Net folder for the Hub.",
)
app.add_typer(convert_app, name="convert")

TOKENIZER_ADVICE = "give CLIP's with --tokenizer, such as --tokenizer openai/clip-vit-base-patch32"


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


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: The arguments; `None` takes the process's own.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        app(args, prog_name="ts2net")
    except Exception as error:  # whatever fails, and wherever in a library: a person gets one line
        report_error(one_line(error))
        raise SystemExit(1) from None


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


@app.command(cls=ManyValuesCommand)
def score(
    model: Annotated[str, typer.Option("--model", "-m", help="A model's folder, or a repository on the Hub.")],
    videos: Annotated[
        list[str],
        typer.Option("--video", "--videos", "-v", metavar="VIDEO...", help="Paths or addresses of videos."),
    ],
    texts: Annotated[
        list[str], typer.Option("--text", "-t", metavar="TEXT...", help="Sentences to score them against.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs; see above.")] = False,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="List only the best K videos of each text.")
    ] = None,
    best_second: Annotated[
        bool, typer.Option("--best-second", help="Also say at which second of each video a text fits best.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Where to compute, such as cpu or cuda:1.  [default: a GPU if there is one]")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Type of the weights; auto is the checkpoint's own."),
    ] = "auto",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the repository.", show_default="main")
    ] = None,
) -> None:
    """Score texts against videos: the higher, the better they fit.

    A video that cannot be read is reported, the others are scored, and the exit code is 1. Code that comes with a
    model is never run.

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

    There is one result a text, in the order given, and its videos come best first. "second" is there with
    --best-second.
    """
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints, the answer stays readable
        from .scoring import Scorer, load

        _hush_loading()
        try:
            scorer = Scorer(*load(model, revision=revision, dtype=dtype, device=device), texts)
        except Exception as error:
            raise ValueError(f"cannot load the model {model!r}: {one_line(error)}") from error

        scored, errors = [], []
        for video in _with_progress(videos):
            try:
                scored.append((video, scorer.score(video)))
            except (ValueError, OSError) as error:
                errors.append({"video": video, "error": one_line(error)})
                report_error(errors[-1]["error"])

    names = [video for video, _ in scored]
    scores = [[row.scores[place] for _, row in scored] for place in range(len(texts))]  # one row a text
    seconds = [[row.seconds[place] for _, row in scored] for place in range(len(texts))] if best_second else None
    if as_json:
        results = []
        for place, text in enumerate(texts):
            ranking = [
                {"video": names[column], "score": scores[place][column]}
                | ({} if seconds is None else {"second": seconds[place][column]})
                for column in best_first(scores[place])[:top_k]
            ]
            results.append({"text": text, "videos": ranking})
        readable = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"  # else JSON's own escapes
        answer = {"model": model, "results": results, "errors": errors}
        print(json.dumps(answer, ensure_ascii=not readable, indent=2))
    elif scored:
        console = Console(highlight=False)
        if top_k is None and not best_second:
            console.print(score_matrix(console, texts, names, scores))
        else:
            console.print(rankings(texts, names, scores, seconds, top_k))
    if errors:
        raise typer.Exit(1)


Destination = Annotated[Path, typer.Argument(metavar="DST", help="Folder to make.", show_default=False)]
TokenizerSource = Annotated[
    str | None, typer.Option("--tokenizer", help="Folder or Hub repository that has CLIP's tokenizer.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the configuration; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the model in a folder that is not empty.")]


@convert_app.command("original")
def convert_original(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="pytorch_model.bin.N of the released code.", show_default=False)
    ],
    destination: Destination,
    tokenizer: TokenizerSource = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a checkpoint of the TS2-Net authors' released code.

    The file is read for its tensors alone; no code in it can run.

    **Example**

        ts2net convert original pytorch_model.bin.4 my-ts2net --tokenizer openai/clip-vit-base-patch32
    """
    overrides = _parse_settings(settings)
    if tokenizer is None:
        raise typer.BadParameter(f"{source} has no tokenizer: {TOKENIZER_ADVICE}", param_hint="--tokenizer")
    _check_destination(destination, overwrite)
    from .conversion import convert_original_checkpoint

    _hush_loading()
    _save(convert_original_checkpoint(source, **overrides), tokenizer, destination)


@convert_app.command("clip")
def convert_clip(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A CLIP: a file of OpenAI's, or a transformers folder or repository.",
            show_default=False,
        ),
    ],
    destination: Destination,
    tokenizer: TokenizerSource = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Start an untrained TS2-Net from a CLIP.

    CLIP's weights are taken over unchanged; the layers it doesn't have are started from its text transformer or at
    random, and have to be trained.

    **Examples**

        ts2net convert clip openai/clip-vit-base-patch32 my-ts2net

        ts2net convert clip ViT-B-32.pt my-ts2net --tokenizer openai/clip-vit-base-patch32

        ts2net convert clip openai/clip-vit-base-patch32 long --set num_frames=64 --set shift_layers=[8,9,10,11]
    """
    overrides = _parse_settings(settings)
    is_file = Path(source).is_file()
    if is_file and tokenizer is None:
        raise typer.BadParameter(f"{source} has no tokenizer: {TOKENIZER_ADVICE}", param_hint="--tokenizer")
    _check_destination(destination, overwrite)
    from .conversion import convert_clip as convert
    from .scoring import check_source

    _hush_loading()
    if not is_file:
        check_source(source)
    base_model = None if is_file or Path(source).is_dir() else source
    _save(convert(source, **overrides), tokenizer or source, destination, base_model)


@app.command(cls=ManyValuesCommand)
def demo(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A folder or Hub repository.", show_default="an untrained one is made"),
    ] = None,
    videos: Annotated[
        list[str] | None,
        typer.Option(
            "--videos",
            "--video",
            "-v",
            metavar="VIDEO...",
            help="Paths or addresses of videos.",
            show_default="clips are rendered",
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--text", "-t", metavar="TEXT...", help="Sentences to score.", show_default="the captions of the clips"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("demo"),
) -> None:
    """See it work: from a CLIP to a Hub folder to scored mp4 files, with no network.

    The folder is loaded in a process of its own with the code beside its weights, as people without ts2net would
    load it. So give --model only what you trust.

    **Examples**

    ts2net demo

        ts2net demo --model me/my-ts2net --videos clips/*.mp4 --text "a dog catches a frisbee" "a man slices bread"
    """
    from .demo import run_demo

    _hush_loading()
    if not run_demo(Console(highlight=False), out, model, videos, texts):
        raise typer.Exit(1)


def _parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Read `field=value` arguments; a value is JSON, or else a word."""
    parsed = {}
    for setting in settings or []:
        field, equals, value = setting.partition("=")
        if not equals or not field.isidentifier():
            raise typer.BadParameter(f"expected FIELD=VALUE, got {setting!r}", param_hint="--set")
        try:
            parsed[field] = json.loads(value)
        except ValueError:
            parsed[field] = value
    return parsed


def _check_destination(folder: Path, overwrite: bool) -> None:
    """Refuse, before any work, a place that a model must not be saved in."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder to save the model in")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"the folder {folder} is not empty: give another, or --overwrite to replace its model")


def _save(model: Any, tokenizer: str, folder: Path, base_model: str | None = None) -> None:
    from .hub import make_model_card, save_hub_folder
    from .processing_ts2net import TS2NetProcessor

    try:
        processor = TS2NetProcessor.from_clip(tokenizer, model.config, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"cannot load the tokenizer {tokenizer!r}: {one_line(error)}") from error
    end_of_text = model.config.text_config.eos_token_id
    # 2 stands in old configurations of CLIP, where the end of a text is the token with the highest id.
    if end_of_text not in (2, processor.tokenizer.eos_token_id):
        raise ValueError(
            f"the tokenizer {tokenizer!r} ends a text with token {processor.tokenizer.eos_token_id}, but the model "
            f"with {end_of_text}: it is not this model's"
        )
    save_hub_folder(model, processor, folder, card=make_model_card(model.config, base_model=base_model))
    print(f"saved a TS2-Net with {model.num_parameters():,} parameters in {folder}")
    print(f'try: ts2net score --model {folder} --video VIDEO --text "..."')


def _with_progress(videos: list[str]) -> Any:
    console = Console(stderr=True)
    hidden = len(videos) == 1 or not console.is_terminal
    return track(videos, "scoring", console=console, transient=True, disable=hidden)


def _hush_loading() -> None:
    """Keep the bars of loading and saving weights off the screen; those of downloads stay, for they take minutes."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()  # the Hub's too
    if "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        enable_progress_bars()


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
