"""Load the model for an index, and check that it is the index's own model and supports the windows."""

import os

from ..encoding.fingerprint import fingerprint
from ..encoding.runtimes import Precision, RuntimeName, load_on_runtime, precision_of
from ..hub.loading import processor_of_loaded
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .about import About, check_same_model
from .encoding import WindowEncoder
from .windows import WindowChoice, WindowSettings


def prepare_encoder(
    path: str,
    present: About | None,
    model: str | os.PathLike[str] | TS2NetModel | None,
    processor: TS2NetProcessor | None = None,
    windows: WindowChoice | WindowSettings | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    runtime: RuntimeName | None = None,
    precision: Precision | None = None,
) -> tuple[WindowEncoder, About]:
    """Load a model, unless it is loaded already, and check that its embeddings can be added to an index.

    Args:
        path: Location of the index.
        present: Model and settings of the index; `None` for a new index.
        model: A model, its folder or its repository. `None` is the model of the index.
        processor: Processor of `model`, if that is loaded already.
        windows: Window settings. `None` is the settings of the index, or the default.
        device: Device of the model.
        dtype: Type of the weights. `None` is the type of the index, or of the checkpoint.
        revision: Branch, tag or commit of the repository.
        runtime: Runtime; see [`load_on_runtime`].
        precision: Precision; see [`load_on_runtime`]. `None` is the precision of the index.

    Returns:
        The encoder, and model and settings of an index that is made with it.

    Raises:
        ValueError: If the model can't be loaded, is not the model of the index, or accepts fewer frames than a window
            has.
    """
    if model is None:
        if present is None:
            raise ValueError(f"{path}: a new index needs a model: say which one with --model")
        model, revision = present.model, revision or present.revision
    if isinstance(model, TS2NetModel):
        processor = processor_of_loaded(processor)
        if runtime is not None or precision is not None:
            raise ValueError("runtime and precision say how to load a model, but this one is loaded")
        name, network = model.name_or_path, model.eval()
    else:
        name = os.fspath(model)
        dtype = dtype or (present.dtype if present is not None else "auto")
        if precision is None and present is not None and present.precision == "int8":
            precision = "int8"
        network, processor = load_on_runtime(
            name, runtime=runtime, precision=precision, revision=revision, dtype=dtype, device=device
        )
    if not isinstance(windows, WindowSettings):
        choice = windows or WindowChoice()
        windows = choice.complete(present.windows if present is not None else None, _max_frames(network))
    about = _about(network, processor, name, windows)
    if present is not None:
        check_same_model(path, present, about)
    _check_frames(network, windows)
    return WindowEncoder(network, processor), about


def _about(model: TS2NetModel, processor: TS2NetProcessor, name: str, windows: WindowSettings) -> About:
    config = model.config
    return About(
        model=os.path.abspath(name) if os.path.isdir(name) else name,
        revision=model.commit,
        fingerprint=fingerprint(model, processor),
        dtype=str(model.dtype).removeprefix("torch."),
        precision=precision_of(model),
        dim=config.projection_dim,
        windows=windows,
        matching_kind=config.matching_kind,
        temperature=float(config.matching_temperature),
        padding_mode=config.padding_mode,
        logit_scale=float(model.logit_scale.detach().float().exp()),  # in float32, as in the model
    )


def _max_frames(model: TS2NetModel) -> int | None:
    """Return the maximum number of frames of a video that a model accepts, or `None` if there is no limit."""
    encoder = model.temporal_encoder
    if encoder is None:
        return None
    return int(encoder.position_embedding.num_embeddings // model.config.tokens_per_frame)


def _check_frames(model: TS2NetModel, windows: WindowSettings) -> None:
    most = _max_frames(model)
    if most is not None and windows.num_frames > most:
        raise ValueError(
            f"windows of {windows} have {windows.num_frames} frames, and the model takes at most {most}: choose "
            f"windows of at most {most / windows.fps:g} s with --window, or fewer frames a second with --fps"
        )
