"""One run: training from the small CLIP with most of its image tower frozen, and evaluation by search."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from clips import PATCHES_PER_SIDE, Captions, shares, to_pixels
from models import COMMON, ORACLE, OracleSelector, Row
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer, get_cosine_schedule_with_warmup

from ts2net.benchmarks.moving_things import GROUP_SIZE, Scene
from ts2net.evaluation.metrics import rank_statistics, text_to_video_ranks
from ts2net.modeling_ts2net import TS2NetModel
from ts2net.training.contrastive import contrastive_loss_over_processes, loss_inputs
from ts2net.training.optimisation import MAX_LOGIT_SCALE, is_clip_parameter
from ts2net.training.selection_loss import faded_weight

BATCH, LEARNING_RATE, CLIP_LEARNING_RATE, IMAGE_LEARNING_RATE, WEIGHT_DECAY = 64, 1e-3, 1e-3, 1e-4, 0.05
LOSS_WEIGHT, LOSS_STEPS = 1.0, 0.2  # of the loss on selected tokens, which ends after a fifth of the steps
ON_THINGS = "selected_on_things"  # percent of the selected patches
CHANCE = "chance"  # percent of all patches
SMALL_FOUND = "small_thing_selected"  # percent of the clips: the patch with most of the small thing
MOVED, NOT_MOVED = "small_thing_in_moved_patches", "small_thing_elsewhere"  # R@1 of these clips in small_object
_ON_A_THING = 0.2  # covered share from which a patch counts as showing a thing


def start(clip: Path, row: Row, seed: int) -> TS2NetModel:
    """Create the model of a row, before its training."""
    torch.manual_seed(seed)
    return TS2NetModel.from_clip(clip, **COMMON | row.settings)


@torch.inference_mode()
def locked_states(model: TS2NetModel, frames: torch.Tensor, num_layers: int) -> torch.Tensor:
    """Compute the lower layers of an image tower for clips `(clips, T, 3, H, W)`: `(clips, T, L, C)`, float16."""
    parts = []
    for part in frames.split(50):
        tower = model.vision_model(to_pixels(part), output_hidden_states=True)
        parts.append(tower.hidden_states[num_layers].half())
    return torch.cat(parts).unflatten(0, frames.shape[:2])


def seen_once(
    folder: Path, model: TS2NetModel, num_layers: int, frames: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the `locked_states` of each split, cached in a file for all rows whose locked layers are equal."""
    shifting = [layer for layer in model.config.vision_config.shift_layers if layer < num_layers]
    kind = model.config.vision_config.shift_kind if shifting else "none"
    clips = "-".join(str(len(each)) for each in frames.values())
    file = folder / f"seen-{num_layers}-{kind}-{''.join(map(str, shifting))}-{clips}.safetensors"
    if not file.exists():
        model.eval()
        save_file({split: locked_states(model, shown, num_layers) for split, shown in frames.items()}, file)
    return load_file(file)


def batches(num_clips: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the indices of the clips of each step. Families, which are four neighbouring clips each, stay together.

    Clips of a family differ only in their motion or small thing. Without them among the negatives, a short training
    has no reason to learn either.
    """
    random = torch.Generator().manual_seed(seed)
    families = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(families) < BATCH // GROUP_SIZE:
            families = torch.randperm(num_clips // GROUP_SIZE, generator=random)
        now, families = families.split([BATCH // GROUP_SIZE, len(families) - BATCH // GROUP_SIZE])
        yield (now[:, None] * GROUP_SIZE + torch.arange(GROUP_SIZE)).flatten()


def lock(model: TS2NetModel, num_layers: int) -> None:
    """Freeze the image tower below layer `num_layers`. If no layer is left, freeze its norm and projection too."""
    for module in (model.vision_model, model.visual_projection):
        module.requires_grad_(False)
    learned = model.vision_model.encoder.layers[num_layers:]
    learned.requires_grad_(True)
    if len(learned):
        model.vision_model.post_layernorm.requires_grad_(True)
        model.visual_projection.requires_grad_(True)


def learning_rate(name: str) -> float:
    """Return the learning rate of a parameter."""
    if name.startswith(("vision_model", "visual_projection")):
        return IMAGE_LEARNING_RATE
    return CLIP_LEARNING_RATE if is_clip_parameter(name) else LEARNING_RATE


def train(
    model: TS2NetModel,
    seen: torch.Tensor,
    captions: Captions,
    first_layer: int,
    *,
    loss_weight: float,
    steps: int,
    seed: int,
) -> None:
    groups = [
        {"params": [each], "lr": learning_rate(name), "weight_decay": WEIGHT_DECAY if each.ndim > 1 else 0.0}
        for name, each in model.named_parameters()
        if each.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step, chosen in enumerate(batches(len(seen), steps, seed)):
        weight = faded_weight(loss_weight, LOSS_STEPS, step, steps)
        words = int(captions.mask[chosen].sum(dim=1).max())
        output = model(
            input_ids=captions.ids[chosen, :words],
            attention_mask=captions.mask[chosen, :words],
            vision_hidden_states=seen[chosen].float(),
            first_vision_layer=first_layer,
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
    """Return clip indices as seeds for the oracle, which looks up clips by them, and `None` for other selectors."""
    return indices if isinstance(model.token_selector, OracleSelector) else None


@torch.inference_mode()
def search(
    model: TS2NetModel, seen: torch.Tensor, captions: Captions, first_layer: int, group_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each text's rank of its clip in its group, `(clips,)`, and selected patches, `(clips, T, K)`, from 0."""
    model.eval()
    parts = [
        model.get_video_features(
            vision_hidden_states=seen[indices].float(),
            first_vision_layer=first_layer,
            selection_seeds=seeds_of(model, indices),
        )
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
    return torch.tensor(ranks), torch.cat([part.selected_token_indices for part in parts]) - 1


def in_moved_columns(model: TS2NetModel, searched: list[Scene]) -> torch.Tensor:
    """Whether most of a clip's small thing lies in patches that token shift moves: `(clips,)`."""
    patches = torch.arange(PATCHES_PER_SIDE**2)
    stride = model.config.vision_config.shift_stride
    moved = (patches % stride == 0) | (patches % stride == model.config.vision_config.shift_offset)
    small = shares(searched, "small").sum(dim=1)  # (clips, N)
    return small[:, moved].sum(dim=1) > small[:, ~moved].sum(dim=1)


def selection_figures(selected: torch.Tensor, searched: list[Scene]) -> dict[str, float]:
    """Compute how many of the selected patches `(clips, T, K)` show things, in percent."""
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
    model = start(clip, row, seed)
    first_layer = model.config.vision_config.num_hidden_layers - row.learned_layers
    seen = seen_once(folder, model, first_layer, frames)
    lock(model, first_layer)
    if row.name == ORACLE:
        selector = OracleSelector(model.config, shares(scenes_of["train"], "small"))
        selector.load_state_dict(model.token_selector.state_dict())
        model.token_selector = selector
    weight = LOSS_WEIGHT if row.selection_loss else 0.0
    captions = {split: Captions(searched, tokenizer) for split, searched in scenes_of.items()}
    train(model, seen["train"], captions["train"], first_layer, loss_weight=weight, steps=steps, seed=seed)
    results: dict[str, Any] = {"row": row.name, "seed": seed, "steps": steps, "clips": len(seen["train"])}
    for split, searched in scenes_of.items():
        if split == "train":
            continue
        if isinstance(model.token_selector, OracleSelector):
            model.token_selector.shares = shares(searched, "small")
        group_size = GROUP_SIZE if searched[0].group else len(searched)
        ranks, selected = search(model, seen[split], captions[split], first_layer, group_size)
        results[split] = rank_statistics(ranks)["R@1"]
        if split == "small_object":  # in which every clip has a small thing
            results |= selection_figures(selected, searched)
            moved = in_moved_columns(model, searched)
            for name, subset in ((MOVED, ranks[moved]), (NOT_MOVED, ranks[~moved])):
                results[name] = 100 * (subset == 1).float().mean().item()
    return results, model
