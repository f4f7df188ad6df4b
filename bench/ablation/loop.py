"""One run: clips through mp4 files, training from the seed's CLIP, and the search that it is measured by."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import TOLD, TOLD_AT_FIRST, Look, Row, SeenTower, Setting, ToldSelector
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from ts2net.benchmarks.motion_shapes import FRAME_SIZE, GROUP_SIZE, NUM_FRAMES, Scene, render, render_mp4, scenes
from ts2net.configuration_ts2net import TS2NetConfig
from ts2net.demo.checkpoint import start_from_clip
from ts2net.evaluation.metrics import rank_statistics, text_to_video_ranks
from ts2net.modeling_ts2net import TS2NetModel
from ts2net.processing_ts2net import TS2NetProcessor
from ts2net.training.contrastive import contrastive_loss_over_processes
from ts2net.training.optimisation import MAX_LOGIT_SCALE, is_clip_parameter

# Settings were chosen by looks at seed 0, of clips and of models. So that the figures are not flattered, neither the
# clips that are searched nor, by default, the models are of that seed.
SEARCHED_SEED = 1
SPLITS = {"test": 200, "motion": 200, "small_object": 200}
DOTS = "dots_selected"  # in percent of the clips with one
PLACES = "always_the_same_places"  # in percent of what is selected
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 2e-3, 0.05


def prepare_clips(out: Path, split: str, count: int, processor: TS2NetProcessor, pool: Executor) -> None:
    """Render a split to mp4, read it back, and keep its frames as bytes: `(clips, frames, 3, H, W)`."""
    files = list(pool.map(render_mp4, clips(split, count), chunksize=32))
    read = processor.video_processor(files, do_rescale=False, do_normalize=False)
    save_file({"frames": read["pixel_values_videos"].round().to(torch.uint8)}, out / f"{split}.safetensors")


def clips(split: str, count: int) -> list[Scene]:
    return scenes(split, count, seed=0 if split == "train" else SEARCHED_SEED)


def load_clips(out: Path, split: str) -> torch.Tensor:
    return load_file(out / f"{split}.safetensors")["frames"]


class Pixels:
    """Bytes to what the model takes, as the processor does it."""

    def __init__(self, processor: TS2NetProcessor) -> None:
        video = processor.video_processor
        self.mean = 255 * torch.tensor(video.image_mean)[:, None, None]
        self.deviation = 255 * torch.tensor(video.image_std)[:, None, None]

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        return (frames - self.mean) / self.deviation


@torch.inference_mode()
def see(model: TS2NetModel, frames: torch.Tensor, pixels: Pixels) -> torch.Tensor:
    """What a model's image tower makes of clips, for a `SeenTower`."""
    parts = [model.vision_model(pixels(part)).last_hidden_state for part in frames.split(100)]
    return torch.cat([part.half() for part in parts]).unflatten(0, frames.shape[:2])[..., None]


class Captions:
    """The tokens of all captions of a split."""

    def __init__(self, searched: list[Scene], processor: TS2NetProcessor) -> None:
        texts = [clip.caption for clip in searched]
        words = processor(text=texts, padding="max_length")
        self.ids, self.mask = words["input_ids"], words["attention_mask"]
        # Clips of one caption are not each other's negatives.
        digests = [hashlib.sha256(text.encode()).digest()[:7] for text in texts]
        self.keys = torch.tensor([int.from_bytes(digest, "big") for digest in digests])


def dot_shares(scene: Scene, config: TS2NetConfig) -> torch.Tensor:
    """How many pixels of each patch the dot covers, in the frames as they are filmed: `(T, N)`, all 0 without one."""
    vision = config.vision_config
    side = vision.image_size // vision.patch_size  # in patches; the model sees frames at a size of its own
    if scene.dot is None:
        return torch.zeros(config.num_frames, side**2)
    seen = np.linspace(0, NUM_FRAMES, config.num_frames, endpoint=False).astype(int)  # one a second
    covered = (render(scene)[seen] != render(replace(scene, dot=None))[seen]).any(axis=-1)  # (T, H, W)
    first = -(-np.arange(side) * FRAME_SIZE // side)  # pixel of each patch, where it doesn't begin with a whole one
    return torch.from_numpy(
        np.add.reduceat(np.add.reduceat(covered, first, axis=1, dtype=int), first, axis=2)
    ).flatten(1)


def batches(num_clips: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Places of the clips of each step. Families, of which every four neighbours are one, stay together.

    In a family clips differ in motion or dot alone. Without them among its negatives a short training has no reason to
    look for either.
    """
    random = torch.Generator().manual_seed(seed)
    families = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(families) < BATCH // GROUP_SIZE:
            families = torch.randperm(num_clips // GROUP_SIZE, generator=random)
        now, families = families.split([BATCH // GROUP_SIZE, len(families) - BATCH // GROUP_SIZE])
        yield (now[:, None] * GROUP_SIZE + torch.arange(GROUP_SIZE)).flatten()


def seeds_of(model: TS2NetModel, places: torch.Tensor) -> torch.Tensor | None:
    """A selector that is told is told by seeds; another one draws its own."""
    selector = model.token_selector
    return places if isinstance(selector, ToldSelector) and selector.kind == "random" else None


def train(
    model: TS2NetModel,
    frames: torch.Tensor,
    captions: Captions,
    look: Look,
    *,
    clip_learning_rate: float,
    steps: int,
    told_steps: int,
    seed: int,
) -> None:
    groups = [
        {
            "params": [
                parameter
                for name, parameter in model.named_parameters()
                if is_clip_parameter(name) == is_clip and (parameter.ndim > 1) == decays
            ],
            "lr": clip_learning_rate if is_clip else LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for is_clip in (False, True)
        for decays in (False, True)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), eps=1e-6)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step, places in enumerate(batches(len(frames), steps, seed)):
        if step == told_steps and isinstance(model.token_selector, ToldSelector):
            model.token_selector.choose_alone()
        output = model(
            input_ids=captions.ids[places],
            attention_mask=captions.mask[places],
            pixel_values_videos=look(frames[places]),
            selection_seeds=seeds_of(model, places),
        )
        result = contrastive_loss_over_processes(
            model, output.text_embeds, output.video_embeds, output.logit_scale, video_keys=captions.keys[places]
        )
        optimizer.zero_grad()
        result.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


@torch.inference_mode()
def encode(model: TS2NetModel, frames: torch.Tensor, look: Look) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of clips, and the places of the patches that are selected, from 0: `(clips, T, K)`."""
    model.eval()
    parts = [
        model.get_video_features(look(frames[places]), selection_seeds=seeds_of(model, places))
        for places in torch.arange(len(frames)).split(50)
    ]
    selected = torch.cat([part.selected_token_indices for part in parts]) - 1
    return torch.cat([part.frame_embeds for part in parts]), selected


@torch.inference_mode()
def recall(model: TS2NetModel, videos: torch.Tensor, captions: Captions, group_size: int) -> float:
    """Text-to-video R@1 in percent, among the neighbours of a group."""
    texts = model.get_text_features(captions.ids, captions.mask).pooler_output
    scores = model.similarity(texts, videos)
    ranks = [
        rank
        for start in range(0, len(scores), group_size)
        for rank in text_to_video_ranks(scores[start : start + group_size, start : start + group_size])
    ]
    return rank_statistics(ranks)["R@1"]


def dots_found(selected: torch.Tensor, shares: torch.Tensor) -> float:
    """In percent, how often the patch is selected that has most of a dot, in the frame that does."""
    frame = shares.sum(dim=-1).argmax(dim=-1)
    clips = torch.arange(len(shares))
    patch = shares[clips, frame].argmax(dim=-1)
    return 100 * (selected[clips, frame] == patch[:, None]).any(dim=-1).float().mean().item()


def favourite_places(selected: torch.Tensor) -> float:
    """In percent, how much of what is selected lies in as many places as a frame has selected patches."""
    chosen = selected.flatten().bincount()
    return 100 * chosen.topk(min(selected.shape[-1], len(chosen))).values.sum().item() / max(selected.numel(), 1)


def run(out: Path, row: Row, setting: Setting, seed: int, steps: int, num_clips: int) -> dict[str, Any]:
    """Train and search once, on one core."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, processor = start_from_clip(out / f"clip-{seed}", seed=seed, **row.settings)
    frames = {split: load_clips(out, split) for split in ["train", *SPLITS]}
    pixels = Pixels(processor)
    look: Look = pixels
    if setting.locked:
        frames = {split: see(model, shown, pixels) for split, shown in frames.items()}
        model.vision_model, look = SeenTower(), torch.Tensor.float

    def shares(searched: list[Scene]) -> torch.Tensor:
        return torch.stack([dot_shares(scene, model.config) for scene in searched])

    scenes_to_train_on = clips("train", num_clips)
    if row.name in (TOLD, TOLD_AT_FIRST):
        told = ToldSelector(model.config, shares(scenes_to_train_on))
        told.load_state_dict(model.token_selector.state_dict())
        model.token_selector = told
    train(
        model,
        frames["train"],
        Captions(scenes_to_train_on, processor),
        look,
        clip_learning_rate=setting.clip_learning_rate,
        steps=steps,
        told_steps=steps if row.name == TOLD else steps // 6,
        seed=seed,
    )
    found = {}
    for split, count in SPLITS.items():
        searched = clips(split, count)
        if isinstance(model.token_selector, ToldSelector):
            model.token_selector.shares = shares(searched)
        videos, selected = encode(model, frames[split], look)
        group_size = count if split == "test" else GROUP_SIZE
        found[split] = recall(model, videos, Captions(searched, processor), group_size)
    # The last split is the one in which every clip has a dot.
    chosen = {DOTS: dots_found(selected, shares(searched)), PLACES: favourite_places(selected)}
    return {"row": row.name, "seed": seed, "steps": steps, "clips": num_clips, **found, **chosen}
