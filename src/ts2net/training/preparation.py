"""From settings to a trainer: the model and its processor, the data, and what the card says of them."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import PreTrainedConfig
from transformers.utils import logging

from ..benchmarks import BENCHMARKS
from ..data.loading import load_benchmark, read_manifest
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .card import CardDetails
from .checkpoints import checkpoints_in
from .command_line import Settings
from .trainer import TS2NetTrainer

logger = logging.get_logger(__name__)


def prepare_run(settings: Settings) -> TS2NetTrainer:
    """Load everything that a run needs.

    Raises:
        ValueError: If a setting doesn't fit the model or the data, or the output folder holds another run.
        TypeError: If a setting of the model or the data is unknown.
        OSError: If the model or the data can't be read.
    """
    training, data = settings.training, settings.data
    if training.resume_from_checkpoint is None and checkpoints_in(Path(training.output_dir)):
        raise ValueError(
            f"{training.output_dir} has checkpoints of an earlier run: go on with --resume_from_checkpoint auto, or "
            f"give another --output_dir"
        )
    train_dataset, num_captions = _load(settings, str(data.train_data), data.train_split, settings.data_options)
    if training.samples_per_epoch is None:
        training.samples_per_epoch = num_captions
    eval_dataset = None
    if training.eval_strategy != "no":
        # A file of captions is that of the training split, whatever split is asked for.
        options = settings.eval_data_options or {
            name: value for name, value in settings.data_options.items() if name != "captions"
        }
        eval_dataset, _ = _load(settings, data.eval_data or str(data.train_data), data.eval_split, options)
    model, processor = load_model(settings)
    trainer = TS2NetTrainer(
        model,
        training,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processor,
        card=_card(settings),
    )
    trainer.check(training.resume_from_checkpoint)
    return trainer


def load_model(settings: Settings) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load a TS2-Net, or start one from a CLIP; in float32, for mixed precision keeps its weights so.

    Raises:
        ValueError: If it is neither, or its settings don't fit.
        TypeError: If `model_config` has an unknown field.
        OSError: If it can't be loaded.
    """
    name, revision = str(settings.model.model), settings.model.model_revision
    loading: dict[str, Any] = {"revision": revision, "dtype": torch.float32}
    if settings.model.attn_implementation is not None:
        loading["attn_implementation"] = settings.model.attn_implementation
    model_type = PreTrainedConfig.get_config_dict(name, revision=revision)[0].get("model_type")
    if model_type == "clip":
        num_frames = settings.training.num_frames
        own_frames = {} if num_frames is None else {"num_frames": num_frames}
        torch.manual_seed(settings.training.seed)
        model = TS2NetModel.from_clip(name, **loading, **(own_frames | settings.model_config))
        return model, TS2NetProcessor.from_clip(name, model.config, revision=revision)
    if model_type != "ts2net":
        raise ValueError(f"{name} is a {model_type!r} model, expected a 'clip' or a 'ts2net' one")
    if settings.model_config:
        logger.warning(f"{name} is a TS2-Net and keeps its configuration: model_config is only for one made of a CLIP")
    model = TS2NetModel.from_pretrained(name, **loading)
    return model, TS2NetProcessor.from_pretrained(name, revision=revision)


def _load(settings: Settings, source: str, split: str, options: dict[str, Any]) -> tuple[Any, int | None]:
    """A split, and how many captions it has, if that is written down."""
    data = settings.data
    place = {name: options[name] for name in ("revision", "token") if name in options}
    manifest = None if data.benchmark == "dataset" else read_manifest(source, split, **place)
    # The rows of a plain folder hold no videos but their paths: nothing is copied, and its length is known.
    streaming = data.streaming and (manifest is not None or data.benchmark != "folder")
    dataset = load_benchmark(str(data.benchmark), source, split, streaming, **options)
    return dataset, manifest.captions if manifest else None


def _card(settings: Settings) -> CardDetails:
    data, benchmark = settings.data, str(settings.data.benchmark)
    title = BENCHMARKS[benchmark].title if benchmark in BENCHMARKS else benchmark.replace("_", " ")
    evaluation_data = data.eval_data or str(data.train_data)
    return CardDetails(
        base_model=_hub_id(str(settings.model.model)),
        datasets=[hub_id for hub_id in [_hub_id(str(data.train_data))] if hub_id],
        training_data=f"{title}, split {data.train_split}",
        evaluation_name=title,
        evaluation_type=_hub_id(evaluation_data) or benchmark,
        evaluation_split=data.eval_split,
    )


def _hub_id(source: str) -> str | None:
    """The id of a repository, if it is one and not a folder."""
    if Path(source).exists():
        return None
    try:
        validate_repo_id(source)
    except HFValidationError:
        return None
    return source
