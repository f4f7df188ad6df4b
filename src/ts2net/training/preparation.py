"""Create a trainer from settings: load the model, its processor and the data, and collect details for the card."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..benchmarks import BENCHMARKS
from ..data.loading import load_benchmark, read_manifest
from ..hub.loading import load_model, read_model_type
from ..hub.repositories import as_repo_id
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
    train = _load(settings, str(data.train_data), data.train_split, settings.data_options, for_evaluation=False)
    data_settings = {
        "train_data": train.identity,
        "data_options": _without_token(settings.data_options),
        "streaming": data.streaming,
    }
    if training.samples_per_epoch is None:
        training.samples_per_epoch = train.num_captions
    eval_dataset, num_left_out = None, 0
    if training.eval_strategy != "no":
        # A captions file belongs to the training split, so it is not used for evaluation.
        options = settings.eval_data_options or {
            name: value for name, value in settings.data_options.items() if name != "captions"
        }
        eval_data = data.eval_data or str(data.train_data)
        evaluation = _load(settings, eval_data, data.eval_split, options, for_evaluation=True)
        eval_dataset, num_left_out = evaluation.dataset, evaluation.num_left_out
        data_settings |= {"eval_data": evaluation.identity, "eval_data_options": _without_token(options)}
    model, processor = _model(settings)
    trainer = TS2NetTrainer(
        model,
        training,
        train_dataset=train.dataset,
        eval_dataset=eval_dataset,
        processing_class=processor,
        card=_card(settings, num_left_out),
        data_settings=data_settings,
        num_train_videos=train.num_videos,
    )
    trainer.check(training.resume_from_checkpoint)
    return trainer


def _model(settings: Settings) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load a TS2-Net, or start one from a CLIP; in float32, because mixed precision keeps its weights in float32."""
    name, revision = str(settings.model.model), settings.model.model_revision
    num_frames = settings.training.num_frames
    if settings.model_config and read_model_type(name, revision) == "ts2net":
        logger.warning(f"{name} is a TS2-Net and keeps its configuration: model_config is only for one made of a CLIP")
    torch.manual_seed(settings.training.seed)
    return load_model(
        name,
        revision=revision,
        dtype=torch.float32,
        device="cpu",  # the trainer moves it
        attn_implementation=settings.model.attn_implementation,
        clip_settings=({} if num_frames is None else {"num_frames": num_frames}) | settings.model_config,
    )


def _without_token(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "token"}


@dataclass(frozen=True)
class _Data:
    """A split, a string that identifies its content, and the counts of its manifest if it has one."""

    dataset: Any
    identity: str
    num_videos: int | None = None
    num_captions: int | None = None
    num_left_out: int = 0


def _load(settings: Settings, source: str, split: str, options: dict[str, Any], *, for_evaluation: bool) -> _Data:
    data = settings.data
    origin = {name: options[name] for name in ("revision", "token") if name in options}
    manifest = None if data.benchmark == "dataset" else read_manifest(source, split, **origin)
    # The rows of a plain folder hold only paths of videos, so nothing is copied without streaming, and the length is
    # known.
    streaming = data.streaming and (manifest is not None or data.benchmark != "folder")
    dataset = load_benchmark(str(data.benchmark), source, split, streaming, with_missing=for_evaluation, **options)
    if manifest is None:
        location = Path(source).resolve() if Path(source).exists() else source
        return _Data(dataset, f"{data.benchmark} {location}, split {split}")
    # Prepared shards are identified by their content, not by their location.
    digest = hashlib.sha256(repr(manifest.shards).encode()).hexdigest()[:12]
    identity = f"{manifest.benchmark}, split {split}, {manifest.videos} videos in shards {digest}"
    if for_evaluation:
        identity += f", {len(manifest.left_out)} missing"
        if manifest.num_uncounted:
            logger.warning(
                f"{manifest.num_uncounted} videos of {split} were missing when an earlier version prepared it, and "
                f"the figures leave them out, for their captions were not kept; the same `ts2net prepare` adds them"
            )
    return _Data(dataset, identity, manifest.videos, manifest.captions, manifest.num_uncounted)


def _card(settings: Settings, num_left_out: int) -> CardDetails:
    data, benchmark = settings.data, str(settings.data.benchmark)
    title = BENCHMARKS[benchmark].title if benchmark in BENCHMARKS else benchmark.replace("_", " ")
    evaluation_data = data.eval_data or str(data.train_data)
    return CardDetails(
        base_model=as_repo_id(str(settings.model.model)),
        datasets=[hub_id for hub_id in [as_repo_id(str(data.train_data))] if hub_id],
        training_data=f"{title}, split {data.train_split}",
        evaluation_name=title,
        evaluation_type=as_repo_id(evaluation_data) or benchmark,
        evaluation_split=data.eval_split,
        evaluation_left_out=num_left_out,
    )
