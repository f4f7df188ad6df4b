"""`ts2net merge`: merge adapters into their base model."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, hush_loading
from .convert import Overwrite, check_destination
from .options import Revision


@app.command()
def merge(
    adapters: Annotated[
        str, typer.Argument(metavar="ADAPTERS", help="Their folder, or repository on the Hub.", show_default=False)
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder to make.", show_default=False)],
    overwrite: Overwrite = False,
    revision: Revision = None,
) -> None:
    """Merge adapters into the weights of the model that they are for.

    The result is a model like any other, which needs no peft. Its scores differ by rounding alone.

    **Example**

        ts2net merge my-run merged
    """
    check_destination(destination, overwrite)
    from ..hub.adapters import find_adapters
    from ..hub.card import make_model_card
    from ..hub.loading import load_model
    from ..hub.repositories import as_repo_id
    from ..hub.saving import save_hub_folder

    hush_loading()
    model, processor = load_model(adapters, revision=revision, device="cpu")
    source = find_adapters(adapters, revision)
    if source is None:
        raise ValueError(f"{adapters} has no adapters: it is a whole model already")
    card = make_model_card(
        model.config,
        base_model=as_repo_id(source.base),
        training={"merged from": f"adapters of {adapters} for {source.base}"},
    )
    save_hub_folder(model, processor, destination, card=card)
    print(f"saved a TS2-Net with {model.num_parameters():,} parameters in {destination}")
