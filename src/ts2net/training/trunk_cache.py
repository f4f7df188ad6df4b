"""Cache of the outputs of the locked (frozen) lower vision layers, which run once for all epochs of a run.

Their output for a video never changes, so it is computed before the first step and stored on disk. Batches then hold
this output in place of frames: no video is decoded, and the layers are not run again. Up to rounding, the result of
the run does not change. The folder name of a cache is a hash of everything that its content depends on.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import __version__ as transformers_version
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..data.rows import VideoRow, as_stream, read_rows
from ..data.trunk_states import TrunkStates, video_key
from ..data.worker_batches import RowDecoder, worker_batches
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .arguments import TS2NetTrainingArguments

if TYPE_CHECKING:
    import datasets

logger = logging.get_logger(__name__)

_VIDEOS_A_FILE = 64
_VIDEOS_A_BATCH = 16


def locked_vision_layers(model: TS2NetModel) -> int:
    """Count the leading layers of the vision transformer that are frozen, with everything below them frozen too."""
    vision = model.vision_model
    parts = [nn.ModuleList([vision.embeddings, vision.pre_layrnorm]), *vision.encoder.layers]
    learns = [any(parameter.requires_grad for parameter in part.parameters()) for part in parts]
    return max(0, [*learns, True].index(True) - 1)


def fill_trunk_cache(
    model: TS2NetModel,
    dataset: "datasets.Dataset | datasets.IterableDataset",
    processor: TS2NetProcessor,
    args: TS2NetTrainingArguments,
    accelerator: Accelerator,
    num_videos: int | None = None,
) -> TrunkStates | None:
    """Compute the missing entries in the cache of a run. All processes must call it.

    Args:
        model: The model, not wrapped.
        dataset: The training data.
        processor: The model's processor.
        args: The run's arguments. `trunk_cache` must be set.
        accelerator: The accelerator of the run.
        num_videos: Number of videos of the training data, if known. Otherwise a stream is read once to count them.

    Returns:
        The states of all videos that can be decoded; `None` if they would need more than `trunk_cache_gb`.

    Raises:
        ValueError: If no layer is locked, a locked layer has dropout, or a file of the cache is damaged.
        OSError: If the states can't be written.
    """
    num_layers = locked_vision_layers(model)
    if num_layers == 0:
        raise ValueError("trunk_cache needs vision layers that do not learn: give freeze_vision_layers")
    vision = model.config.vision_config
    if vision.attention_dropout:
        raise ValueError(f"trunk_cache needs vision layers without dropout, got {vision.attention_dropout}")
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    num_videos = _count(dataset) if num_videos is None else num_videos
    size = num_videos * int(args.num_frames or 0) * tokens * vision.hidden_size * model.dtype.itemsize / 1e9
    if size > args.trunk_cache_gb:
        logger.warning(
            f"the outputs of {num_layers} locked vision layers for {num_videos:,} videos would take {size:,.1f} GB, "
            f"more than trunk_cache_gb={args.trunk_cache_gb:g}: they are computed in every epoch"
        )
        return None
    folder = Path(str(args.trunk_cache)) / _digest(model, num_layers, processor, args)
    states = TrunkStates(folder)
    device = model.device
    model.to(accelerator.device)  # with FSDP the model is in host memory until it is sharded
    was_training = model.training
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        _compute_missing(model, num_layers, states, dataset, processor, args)
    model.train(was_training).to(device)
    accelerator.wait_for_everyone()
    return TrunkStates(folder)


def _compute_missing(
    model: TS2NetModel,
    num_layers: int,
    states: TrunkStates,
    dataset: Any,
    processor: TS2NetProcessor,
    args: TS2NetTrainingArguments,
) -> None:
    missing = _MissingRows(as_stream(dataset), states, args.process_index, args.world_size)
    batches = worker_batches(
        RowDecoder(processor, int(args.num_frames or 0)),
        batch_size=_VIDEOS_A_BATCH,
        sampler=missing,
        num_workers=args.dataloader_num_workers,
        collate_fn=list,
    )
    kept: list[tuple[str, torch.Tensor, torch.Tensor]] = []
    for batch in logging.tqdm(batches, desc="locked layers", disable=args.disable_tqdm or args.process_index > 0):
        good = [(key, video) for key, _, video in batch if not isinstance(video, BrokenVideo)]
        if good:
            pixels = torch.stack([video["pixel_values_videos"] for _, video in good])
            mask = torch.stack([video["padding_mask_videos"] for _, video in good])
            output = model.get_video_features(
                pixels.to(model.device), mask.to(model.device), output_hidden_states=True
            )
            assert output.hidden_states is not None
            hidden_states = output.hidden_states[num_layers].unflatten(0, mask.shape).cpu()  # (n, T, L, C)
            kept += zip([key for key, _ in good], hidden_states, mask, strict=True)
        while len(kept) >= _VIDEOS_A_FILE:
            _write(states, kept[:_VIDEOS_A_FILE])
            kept = kept[_VIDEOS_A_FILE:]
    if kept:
        _write(states, kept)


def _write(states: TrunkStates, kept: list[tuple[str, torch.Tensor, torch.Tensor]]) -> None:
    keys, hidden_states, masks = zip(*kept, strict=True)
    states.write(keys, torch.stack(hidden_states), torch.stack(masks))


class _MissingRows:
    """Sampler of the loader: this process's share of the rows whose videos are not in the cache."""

    def __init__(self, stream: Any, states: TrunkStates, process_index: int, num_processes: int) -> None:
        self._stream = stream
        self._states = states
        self._process_index = process_index
        self._num_processes = num_processes

    def __iter__(self) -> Iterator[tuple[str, VideoRow]]:
        seen = set()
        for index, row in enumerate(read_rows(self._stream)):
            if index % self._num_processes != self._process_index:
                continue
            try:
                key = video_key(row)
            except OSError:
                continue  # reported as a broken video during training
            if key not in self._states and key not in seen:
                seen.add(key)
                yield key, row


def _count(dataset: Any) -> int:
    if has_length(dataset):
        return len(dataset)
    return sum(1 for _ in as_stream(dataset).select_columns(["id"]))


@torch.no_grad()
def _digest(model: TS2NetModel, num_layers: int, processor: TS2NetProcessor, args: TS2NetTrainingArguments) -> str:
    """Return a hash of everything that the states of a video depend on."""
    vision = model.vision_model
    settings = {
        "layers": num_layers,
        "vision": model.config.vision_config.to_dict(),
        "padding_mode": model.config.padding_mode,
        "processor": processor.video_processor.to_dict(),
        "num_frames": args.num_frames,
        "dtype": [str(model.dtype), args.bf16, args.fp16],
        "transformers": transformers_version,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in (vision.embeddings, vision.pre_layrnorm, *vision.encoder.layers[:num_layers]):
        for name, weight in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
