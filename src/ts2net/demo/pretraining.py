"""What a CLIP from the Hub has behind it, in small: an image-text training, on photos of motion shapes.

Notable here: this is `transformers.Trainer` with CLIP's own loss. Photos go the way of a video's frames, so that the
vision transformer sees later what it has learnt to see.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import (
    CLIPModel,
    CLIPTokenizer,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from ..benchmarks.motion_shapes import Photo, photos, render_photo
from ..training.optimisation import LogitScaleLimit
from ..video_processing_ts2net import TS2NetVideoProcessor
from ..videos.rendering import draw_in_processes
from .bar import TrainingBar

_PHOTOS_A_JOB = 250


def train_on_photos(
    clip: Path, folder: Path, console: Console, *, num_photos: int, steps: int, seed: int = 0, workers: int = 0
) -> None:
    """Train a CLIP, and save it as a checkpoint with its tokenizer.

    Args:
        clip: Folder of the CLIP to start from.
        folder: Where to. It has this name only once it is whole.
        console: Where to show the progress.
        num_photos: Photos to render.
        steps: Steps of 128 pairs.
        seed: Of the photos, and of the order they are looked at in.
        workers: Processes that render; 0 is only this one.

    Raises:
        RuntimeError: If one of them dies.
    """
    model, tokenizer = CLIPModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
    args = TrainingArguments(
        output_dir=str(clip),  # where nothing is written
        max_steps=steps,
        seed=seed,
        per_device_train_batch_size=128,
        learning_rate=2e-3,
        adam_beta2=0.98,
        adam_epsilon=1e-6,
        weight_decay=0.05,
        warmup_steps=0.1,
        lr_scheduler_type="cosine",
        dataloader_drop_last=True,
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=False,
    )
    pairs = _pairs(tokenizer, model.config.vision_config.image_size, num_photos, seed, workers)
    with TrainingBar(console, "a CLIP") as bar:
        trainer = Trainer(model, args, train_dataset=pairs, data_collator=_collate, callbacks=[LogitScaleLimit(), bar])
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    staged = folder.with_name(f".{folder.name}")
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    staged.rename(folder)


def _pairs(tokenizer: CLIPTokenizer, side: int, count: int, seed: int, workers: int) -> list[dict[str, torch.Tensor]]:
    """Photos and their captions, as the model takes them."""
    found = photos(count, seed)
    processor = TS2NetVideoProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    album = draw_in_processes(_draw, found, items_a_job=_PHOTOS_A_JOB, workers=workers)  # (count, H, W, 3)
    pixels = processor([album], do_sample_frames=False)["pixel_values_videos"][0]  # (count, 3, side, side)
    texts = tokenizer([photo.caption for photo in found], padding=True, return_tensors="pt")
    return [
        {"pixel_values": image, "input_ids": ids, "attention_mask": mask}
        for image, ids, mask in zip(pixels, texts["input_ids"], texts["attention_mask"], strict=True)
    ]


def _draw(some: Sequence[Photo]) -> np.ndarray:
    return np.stack([render_photo(photo) for photo in some])


def _collate(pairs: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    return default_data_collator(pairs) | {"return_loss": True}
