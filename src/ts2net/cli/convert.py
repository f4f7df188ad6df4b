"""`ts2net convert`: convert a released checkpoint or a CLIP to a TS2-Net folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import one_line
from ..named_values import json_or_text
from .app import app, hush_loading
from .options import named_values

TOKENIZER_ADVICE = "give CLIP's with --tokenizer, such as --tokenizer openai/clip-vit-base-patch32"

convert_app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Convert weights to a TS2-Net folder for the Hub.",
)
app.add_typer(convert_app, name="convert")

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

    Only tensors are read from the file; no code in it can run.

    **Example**

        ts2net convert original pytorch_model.bin.4 my-ts2net --tokenizer openai/clip-vit-base-patch32
    """
    overrides = _overrides(settings)
    if tokenizer is None:
        raise typer.BadParameter(f"{source} has no tokenizer: {TOKENIZER_ADVICE}", param_hint="--tokenizer")
    check_destination(destination, overwrite)
    from ..conversion import convert_original_checkpoint

    hush_loading()
    _save(convert_original_checkpoint(source, **overrides), tokenizer, destination, clock="released")


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

    CLIP's weights are copied unchanged. The layers that CLIP does not have start from its text transformer or at
    random, and have to be trained.

    **Examples**

        ts2net convert clip openai/clip-vit-base-patch32 my-ts2net

        ts2net convert clip ViT-B-32.pt my-ts2net --tokenizer openai/clip-vit-base-patch32

        ts2net convert clip openai/clip-vit-base-patch32 long --set num_frames=64 --set shift_layers=[8,9,10,11]

        ts2net convert clip openai/clip-vit-base-patch32 as-it-is --set as_is=true
    """
    overrides = _overrides(settings)
    is_file = Path(source).is_file()
    if is_file and tokenizer is None:
        raise typer.BadParameter(f"{source} has no tokenizer: {TOKENIZER_ADVICE}", param_hint="--tokenizer")
    check_destination(destination, overwrite)
    from ..conversion import convert_clip as convert
    from ..hub.loading import check_model_source

    hush_loading()
    if not is_file:
        check_model_source(source)
    base_model = None if is_file or Path(source).is_dir() else source
    _save(convert(source, **overrides), tokenizer or source, destination, base_model)


def _overrides(settings: list[str] | None) -> dict[str, Any]:
    """Read the fields of the configuration that `--set` changes."""
    values = named_values("--set", settings, "FIELD=VALUE")
    for field, value in values.items():
        if not field.isidentifier():
            raise typer.BadParameter(f"expected FIELD=VALUE, got {f'{field}={value}'!r}", param_hint="--set")
    return {field: json_or_text(value) for field, value in values.items()}


def check_destination(folder: Path, overwrite: bool) -> None:
    """Check that a model can be saved in a folder.

    Raises:
        NotADirectoryError: If `folder` is a file.
        FileExistsError: If the folder is not empty, and `overwrite` is false.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder to save the model in")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"the folder {folder} is not empty: give another, or --overwrite to replace its model")


def _save(model: Any, tokenizer: str, folder: Path, base_model: str | None = None, clock: str = "seconds") -> None:
    from ..hub import make_model_card, save_hub_folder
    from ..processing_ts2net import TS2NetProcessor

    try:
        processor = TS2NetProcessor.from_clip(tokenizer, model.config, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"cannot load the tokenizer {tokenizer!r}: {one_line(error)}") from error
    processor.video_processor.clock = clock
    end_of_text = model.config.text_config.eos_token_id
    # Old CLIP configurations have `eos_token_id=2`, which means that the token with the highest id ends a text.
    if end_of_text not in (2, processor.tokenizer.eos_token_id):
        raise ValueError(
            f"the tokenizer {tokenizer!r} ends a text with token {processor.tokenizer.eos_token_id}, but the model "
            f"with {end_of_text}: it is not this model's"
        )
    save_hub_folder(model, processor, folder, card=make_model_card(model.config, base_model=base_model))
    print(f"saved a TS2-Net with {model.num_parameters():,} parameters in {folder}")
    print(f'try: ts2net score --model {folder} --video VIDEO --text "..."')
