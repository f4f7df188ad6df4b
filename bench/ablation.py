"""The paper's ablations in small, on motion shapes: which part of TS2-Net finds what.

    python bench/ablation.py --out ablation          # all rows; tables in ablation/coarse/tables.md, plots beside it
    python bench/ablation.py --setting locked --rows "mean pooling" "both (TS2-Net)" --seeds 0

A small CLIP is trained on photos once a seed. It knows the words for the colours of dots from large things, and that
captions don't tell of dots. Every row starts from it and is trained alike: the same clips in the same batches, the
same steps and learning rates. It then searches all 200 test clips with their captions, and the four
candidates of each group in both diagnostic splits, where guessing finds 25 %. Everything is read back from mp4 files
by the video processor. Runs that are done are kept in `OUT/SETTING/runs.jsonl` and not done again.

There are three settings. In the *coarse* one frames have 16 patches, which is quick. In the *fine* one they have 49,
as those of a ViT-B/32 have: a dot covers up to half of a patch there, up to a seventh in the coarse one. The *locked*
one is as fine, and CLIP's image tower stays as it is while all else learns (Zhai et al. 2022, LiT). That is close to
the paper's recipe, where CLIP learns a thousand times slower than what is new.
"""

import argparse
import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import get_cosine_schedule_with_warmup
from transformers.modeling_outputs import BaseModelOutput

from ts2net.benchmarks.motion_shapes import FRAME_SIZE, GROUP_SIZE, NUM_FRAMES, Scene, render, render_mp4, scenes
from ts2net.configuration_ts2net import TS2NetConfig
from ts2net.demo.checkpoint import make_clip_checkpoint, start_from_clip
from ts2net.demo.pretraining import train_on_photos
from ts2net.evaluation.metrics import rank_statistics, text_to_video_ranks
from ts2net.modeling_ts2net import TS2NetModel, TS2NetTokenSelector
from ts2net.parallel.pool import end_with_parent
from ts2net.processing_ts2net import TS2NetProcessor
from ts2net.training.contrastive import contrastive_loss_over_processes
from ts2net.training.optimisation import MAX_LOGIT_SCALE, is_clip_parameter

# Settings were chosen by looks at seed 0, of clips and of models. So that the figures are not flattered, neither the
# clips that are searched nor, by default, the models are of that seed.
SEARCHED_SEED = 1
SPLITS = {"test": 200, "motion": 200, "small_object": 200}
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 2e-3, 0.05


@dataclass(frozen=True)
class Setting:
    """What a model sees of a frame, and how it learns from it.

    Attributes:
        image_size: Pixels of a frame, each way.
        patch_size: Pixels of a patch, each way.
        clips: To train on, by default.
        steps: Of training, by default.
        clip_learning_rate: Of CLIP's own parameters, which learn slower, as what it brings is to be built upon.
        locked: CLIP's image tower doesn't learn at all.
    """

    image_size: int
    patch_size: int
    clips: int
    steps: int
    clip_learning_rate: float
    locked: bool = False


SETTINGS = {
    "coarse": Setting(image_size=32, patch_size=8, clips=4000, steps=400, clip_learning_rate=2e-4),
    "fine": Setting(image_size=28, patch_size=4, clips=4000, steps=800, clip_learning_rate=6e-4),
    "locked": Setting(image_size=28, patch_size=4, clips=16_000, steps=3000, clip_learning_rate=2e-4, locked=True),
}

MEAN_POOLING = {
    "shift_kind": "none",
    "selection_kind": "none",
    "temporal_num_layers": 0,
    "matching_kind": "mean",
}
FULL = "both (TS2-Net)"
TOLD = "told where the dot is"
TOLD_AT_FIRST = "told for a sixth of the steps, then learned"
DOTS = "dots_selected"  # in percent of the clips with one
PLACES = "always_the_same_places"  # in percent of what is selected


@dataclass(frozen=True)
class Row:
    """A configuration and the tables in which it stands, with the name it has there."""

    names: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return next(iter(self.names.values()))


ROWS = [
    Row({"modules": "mean pooling"}, MEAN_POOLING),
    Row({"modules": "+ temporal encoder"}, {"shift_kind": "none", "selection_kind": "none"}),
    Row({"modules": "+ token shift", "K": "0 ([CLS] only)"}, {"selection_kind": "none"}),
    Row({"modules": "+ token selection", "shift": "none"}, {"shift_kind": "none"}),
    Row(
        {
            "modules": FULL,
            "shift": "token",
            "layers": "last two",
            "ratio": "2 of 7",
            "K": "3",
            "choice": "learned",
        }
    ),
    Row({"shift": "channel, all tokens"}, {"shift_kind": "channel"}),
    Row({"shift": "channel, patches"}, {"shift_kind": "channel_patches"}),
    Row({"shift": "channel, [CLS]"}, {"shift_kind": "channel_cls"}),
    Row({"layers": "first two"}, {"shift_layers": [0, 1]}),
    Row({"layers": "all four"}, {"shift_layers": [0, 1, 2, 3]}),
    Row({"ratio": "2 of 14"}, {"shift_stride": 14, "shift_offset": 7}),
    Row({"ratio": "2 of 4"}, {"shift_stride": 4, "shift_offset": 2}),
    Row({"K": "1"}, {"num_selected_tokens": 1}),
    Row({"K": "6"}, {"num_selected_tokens": 6}),
    Row({"choice": "random"}, {"selection_kind": "random"}),
    Row({"choice": TOLD}, {"selection_kind": "random"}),
    Row({"choice": TOLD_AT_FIRST}),
]

TABLES = {
    "modules": "What is added to mean pooling",
    "shift": "Kind of shift",
    "layers": "Layers that shift, of four",
    "ratio": "Share of patches that shift",
    "K": "Patches that are kept beside [CLS]",
    "choice": "Choice of patches",
}


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


Look = Callable[[torch.Tensor], torch.Tensor]  # from what is kept of clips to what the model takes


class SeenTower(nn.Module):
    """Stands in for an image tower that doesn't learn: it is given what that one has made of frames, once for all."""

    def forward(self, seen: torch.Tensor, **kwargs: Any) -> BaseModelOutput:
        """Give back tokens `(clips, T, L, C, 1)`, as the tower does: `(clips * T, L, C)`."""
        return BaseModelOutput(last_hidden_state=seen.squeeze(-1).flatten(0, 1))


@torch.inference_mode()
def see(model: TS2NetModel, frames: torch.Tensor, pixels: Pixels) -> torch.Tensor:
    """What a model's image tower makes of clips, for a `SeenTower`."""
    parts = [model.vision_model(pixels(part)).last_hidden_state for part in frames.split(100)]
    return torch.cat([part.half() for part in parts]).unflatten(0, frames.shape[:2])[..., None]


class Captions:
    """The tokens of all captions of a split."""

    def __init__(self, searched: list[Scene], processor: TS2NetProcessor) -> None:
        texts = [clip.caption for clip in searched]
        words = processor.tokenizer(texts, padding="max_length", return_tensors="pt")
        self.ids, self.mask = words["input_ids"], words["attention_mask"]
        # Clips of one caption are not each other's negatives.
        digests = [hashlib.sha256(text.encode()).digest()[:7] for text in texts]
        self.keys = torch.tensor([int.from_bytes(digest, "big") for digest in digests])


class ToldSelector(TS2NetTokenSelector):
    """Selects what a clip's dot covers, as well as can be: what a learned scorer could gain by it.

    Args:
        config: Of the model.
        shares: Of the dot of each clip in each patch, `(clips, T, N)`.
    """

    def __init__(self, config: TS2NetConfig, shares: torch.Tensor) -> None:
        super().__init__(config)
        self.shares = shares
        self.kind = "random"

    def choose_alone(self) -> None:
        """From now on select by the scorer."""
        self.kind = "perturbed_topk"

    def _random_ranking(self, patches: torch.Tensor, seeds: torch.Tensor | None) -> torch.Tensor:
        return self.shares[seeds]  # which are the clips' places


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
    return torch.cat([part.pooler_output for part in parts]), selected


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


def make_clip(out: Path, setting: Setting, seed: int, num_clips: int, num_photos: int, steps: int) -> None:
    """The CLIP that all rows of a seed start from."""
    torch.set_num_threads(1)
    new = out / f"new-clip-{seed}"
    captions = (scene.caption for scene in clips("train", num_clips))
    make_clip_checkpoint(new, captions, seed, image_size=setting.image_size, patch_size=setting.patch_size)
    quiet = Console(stderr=True, quiet=True)
    train_on_photos(new, out / f"clip-{seed}", quiet, num_photos=num_photos, steps=steps, seed=seed)


def cell(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def tables(runs: list[dict[str, Any]]) -> str:
    parts = []
    for key, title in TABLES.items():
        columns = [*SPLITS, DOTS, PLACES] if key == "choice" else [*SPLITS]
        lines = [f"| {' | '.join([title, *columns]).replace('_', ' ')} |", f"|{' --- |' * (len(columns) + 1)}"]
        for row in ROWS:
            own = [each for each in runs if each["row"] == row.name]
            if key in row.names and own:
                cells = [cell([each[column] for each in own]) for column in columns]
                lines.append(f"| {' | '.join([row.names[key], *cells])} |")
        if len(lines) > 2:
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def plot(runs: list[dict[str, Any]], out: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    for key, title in TABLES.items():
        rows = [row for row in ROWS if key in row.names and any(each["row"] == row.name for each in runs)]
        if not rows:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.6 * len(rows)), layout="constrained")
        for place, split in enumerate(SPLITS):
            values = [[each[split] for each in runs if each["row"] == row.name] for row in rows]
            axes.barh(
                [number + 0.27 * (place - 1) for number in range(len(rows))],
                [statistics.mean(each) for each in values],
                xerr=[statistics.stdev(each) if len(each) > 1 else 0 for each in values],
                height=0.25,
                label=split.replace("_", " "),
            )
        axes.set_yticks(range(len(rows)), [row.names[key] for row in rows])
        axes.invert_yaxis()
        axes.set(title=title, xlabel="text-to-video R@1, %, mean and standard deviation over seeds", xlim=(0, 100))
        axes.legend(loc="lower right")
        figure.savefig(out / f"{key}.png", dpi=120)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--setting", choices=SETTINGS, default="coarse")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--steps", type=int, help="of training; the setting's own if not given")
    parser.add_argument("--clips", type=int, help="to train on; the setting's own if not given")
    parser.add_argument("--photos", type=int, default=10_000, help="to train the CLIP on")
    parser.add_argument("--photo-steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one core")
    args = parser.parse_args()
    setting, out = SETTINGS[args.setting], args.out / args.setting
    steps, num_clips = args.steps or setting.steps, args.clips or setting.clips
    out.mkdir(parents=True, exist_ok=True)

    record = out / "runs.jsonl"
    runs = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(each["row"], each["seed"]) for each in runs if (each["steps"], each["clips"]) == (steps, num_clips)}
    rows = [row for row in ROWS if row.name in args.rows]
    todo = [(row, seed) for seed in args.seeds for row in rows if (row.name, seed) not in done]

    with ProcessPoolExecutor(args.jobs, get_context("spawn"), initializer=end_with_parent) as pool:
        seeds = sorted({seed for _, seed in todo if not (out / f"clip-{seed}").exists()})
        photos = (num_clips, args.photos, args.photo_steps)
        for made in [pool.submit(make_clip, out, setting, seed, *photos) for seed in seeds]:
            made.result()
        if todo:
            _, processor = start_from_clip(out / f"clip-{todo[0][1]}")
            for split, count in {"train": num_clips, **SPLITS}.items():
                if not (out / f"{split}.safetensors").exists():
                    prepare_clips(out, split, count, processor, pool)
        started = [pool.submit(run, out, row, setting, seed, steps, num_clips) for row, seed in todo]
        for number, finished in enumerate(as_completed(started), start=1):
            runs.append(finished.result())
            with record.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(f"{number} of {len(todo)}: {runs[-1]}", flush=True)

    wanted = [each for each in runs if (each["steps"], each["clips"]) == (steps, num_clips)]
    (out / "tables.md").write_text(tables(wanted))
    plot(wanted, out)
    print(tables(wanted))


if __name__ == "__main__":
    main()
