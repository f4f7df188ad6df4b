"""One run: training from the small CLIP with its image tower locked, and the search that it is measured by."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from clips import PATCHES_PER_SIDE, Captions, shares
from models import COMMON, TOLD, Row, SeenTower, ToldSelector
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer, get_cosine_schedule_with_warmup

from ts2net.benchmarks.moving_things import GROUP_SIZE, Scene
from ts2net.evaluation.metrics import rank_statistics, text_to_video_ranks
from ts2net.modeling_ts2net import TS2NetModel
from ts2net.training.contrastive import contrastive_loss_over_processes, loss_inputs
from ts2net.training.optimisation import MAX_LOGIT_SCALE, is_clip_parameter
from ts2net.training.selection_loss import faded_weight
from ts2net.video_processing_ts2net import TS2NetVideoProcessor

BATCH, LEARNING_RATE, CLIP_LEARNING_RATE, WEIGHT_DECAY = 64, 1e-3, 1e-3, 0.05
LOSS_WEIGHT, LOSS_STEPS = 1.0, 0.2  # of the loss on selected tokens, which ends after a fifth of the steps
ON_THINGS = "selected_on_things"  # percent of the selected patches
CHANCE = "chance"  # percent of all patches
SMALL_FOUND = "small_thing_selected"  # percent of the clips: the patch with most of the small thing
_ON_A_THING = 0.2  # of a patch: from here on it shows a thing


def start(clip: Path, row: Row, seed: int) -> TS2NetModel:
    """The model of a row before its training."""
    torch.manual_seed(seed)
    return TS2NetModel.from_clip(clip, **COMMON | row.settings)


@torch.inference_mode()
def see(model: TS2NetModel, frames: torch.Tensor, processor: TS2NetVideoProcessor) -> torch.Tensor:
    """What a model's image tower makes of clips, for a `SeenTower`: `(clips, T, L, C)`, float16."""
    mean = 255 * torch.tensor(processor.image_mean)[:, None, None]
    deviation = 255 * torch.tensor(processor.image_std)[:, None, None]
    parts = [model.vision_model((part - mean) / deviation).last_hidden_state.half() for part in frames.split(50)]
    return torch.cat(parts).unflatten(0, frames.shape[:2])


def seen_once(
    folder: Path, clip: Path, row: Row, frames: dict[str, torch.Tensor], processor: TS2NetVideoProcessor
) -> dict[str, torch.Tensor]:
    """What `see` gives for each split, kept in a file for all rows whose shift is the same."""
    shift = [str(row.settings.get(name, "")) for name in ("shift_kind", "shift_layers")]
    file = folder / f"seen-{'-'.join(filter(None, shift)) or 'token'}.safetensors"
    if not file.exists():
        model = start(clip, row, seed=0).eval()
        save_file({split: see(model, shown, processor) for split, shown in frames.items()}, file)
    return load_file(file)


def batches(num_clips: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Indices of the clips of each step. Families, of which every four neighbours are one, stay together.

    Clips of a family differ in motion or small thing alone. Without them among its negatives a short training has no
    reason to look for either.
    """
    random = torch.Generator().manual_seed(seed)
    families = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(families) < BATCH // GROUP_SIZE:
            families = torch.randperm(num_clips // GROUP_SIZE, generator=random)
        now, families = families.split([BATCH // GROUP_SIZE, len(families) - BATCH // GROUP_SIZE])
        yield (now[:, None] * GROUP_SIZE + torch.arange(GROUP_SIZE)).flatten()


def train(
    model: TS2NetModel, seen: torch.Tensor, captions: Captions, *, loss_weight: float, steps: int, seed: int
) -> None:
    groups = [
        {
            "params": [
                parameter
                for name, parameter in model.named_parameters()
                if is_clip_parameter(name) == is_clip and (parameter.ndim > 1) == decays
            ],
            "lr": CLIP_LEARNING_RATE if is_clip else LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for is_clip in (False, True)
        for decays in (False, True)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), eps=1e-6)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step, chosen in enumerate(batches(len(seen), steps, seed)):
        weight = faded_weight(loss_weight, LOSS_STEPS, step, steps)
        words = int(captions.mask[chosen].sum(dim=1).max())
        output = model(
            input_ids=captions.ids[chosen, :words],
            attention_mask=captions.mask[chosen, :words],
            pixel_values_videos=seen[chosen].float()[..., None],
            selection_seeds=seeds_of(model, chosen),
        )
        result = contrastive_loss_over_processes(
            model, **loss_inputs(output, weight), video_keys=captions.keys[chosen], selection_weight=weight
        )
        optimizer.zero_grad()
        result.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def seeds_of(model: TS2NetModel, indices: torch.Tensor) -> torch.Tensor | None:
    """A selector that is told is told by seeds; another one draws its own."""
    return indices if isinstance(model.token_selector, ToldSelector) else None


@torch.inference_mode()
def search(model: TS2NetModel, seen: torch.Tensor, captions: Captions, group_size: int) -> tuple[float, torch.Tensor]:
    """Text-to-video R@1 in percent among a group's neighbours, and the selected patches `(clips, T, K)`, from 0."""
    model.eval()
    parts = [
        model.get_video_features(seen[indices].float()[..., None], selection_seeds=seeds_of(model, indices))
        for indices in torch.arange(len(seen)).split(100)
    ]
    videos = torch.cat([part.frame_embeds for part in parts])
    texts = model.get_text_features(captions.ids, captions.mask).matching_embeds
    scores = model.similarity(texts, videos)
    ranks = [
        rank
        for first in range(0, len(scores), group_size)
        for rank in text_to_video_ranks(scores[first : first + group_size, first : first + group_size])
    ]
    return rank_statistics(ranks)["R@1"], torch.cat([part.selected_token_indices for part in parts]) - 1


def selection_figures(selected: torch.Tensor, searched: list[Scene]) -> dict[str, float]:
    """Where selected patches `(clips, T, K)` lie, in percent."""
    things = shares(searched, "thing", "companion", "small") >= _ON_A_THING  # (clips, T, N)
    figures = {CHANCE: 100 * things.float().mean().item()}
    if selected.shape[-1] == 0:
        return figures
    figures[ON_THINGS] = 100 * things.gather(-1, selected).float().mean().item()
    small = shares(searched, "small")
    indices = torch.arange(len(small))
    frame = small.sum(dim=-1).argmax(dim=-1)
    best = small[indices, frame].argmax(dim=-1)
    figures[SMALL_FOUND] = 100 * (selected[indices, frame] == best[:, None]).any(dim=-1).float().mean().item()
    return figures


def run(
    folder: Path,
    clip: Path,
    row: Row,
    scenes_of: dict[str, list[Scene]],
    frames: dict[str, torch.Tensor],
    *,
    steps: int,
    seed: int,
) -> tuple[dict[str, Any], TS2NetModel]:
    """Train and search once, on one core."""
    torch.set_num_threads(1)
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    side = 8 * PATCHES_PER_SIDE
    processor = TS2NetVideoProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    seen = seen_once(folder, clip, row, frames, processor)
    model = start(clip, row, seed)
    tower, model.vision_model = model.vision_model, SeenTower()
    model.visual_projection.requires_grad_(False)
    if row.name == TOLD:
        told = ToldSelector(model.config, shares(scenes_of["train"], "small"))
        told.load_state_dict(model.token_selector.state_dict())
        model.token_selector = told
    weight = LOSS_WEIGHT if row.selection_loss else 0.0
    captions = {split: Captions(searched, tokenizer) for split, searched in scenes_of.items()}
    train(model, seen["train"], captions["train"], loss_weight=weight, steps=steps, seed=seed)
    found: dict[str, Any] = {"row": row.name, "seed": seed, "steps": steps, "clips": len(seen["train"])}
    for split, searched in scenes_of.items():
        if split == "train":
            continue
        if isinstance(model.token_selector, ToldSelector):
            model.token_selector.shares = shares(searched, "small")
        group_size = GROUP_SIZE if searched[0].group else len(searched)
        found[split], selected = search(model, seen[split], captions[split], group_size)
        if split == "small_object":  # in which every clip has a small thing
            found |= selection_figures(selected, searched)
    model.vision_model = tower
    return found, model
