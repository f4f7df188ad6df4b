"""Frames of moving-things clips, rendered to mp4 and read by the video processor, with their captions and patches."""

import hashlib
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from ts2net.benchmarks.moving_things import Scene, patch_shares, render_mp4, scenes
from ts2net.video_processing_ts2net import TS2NetVideoProcessor

# Settings were chosen on clips of seed 0, with models of seed 0. To avoid a bias of the figures, neither the searched
# clips nor, by default, the models have that seed.
SEARCHED_SEED = 1
SPLITS = {"test": 200, "motion": 200, "small_object": 400}
PATCHES_PER_SIDE = 7


def clips(split: str, count: int, seed: int) -> list[Scene]:
    """Return scenes for training, which are the same for all seeds, or for search."""
    return scenes(split, count, seed=0 if split == "train" else seed)


def prepare_clips(file: Path, searched: list[Scene], processor: TS2NetVideoProcessor, pool: Executor) -> None:
    """Render clips to mp4, read them back, and store their frames as uint8, `(clips, T, 3, H, W)`."""
    videos = list(pool.map(render_mp4, searched, chunksize=32))
    parts = [
        processor(videos[first : first + 100], do_rescale=False, do_normalize=False)["pixel_values_videos"]
        for first in range(0, len(videos), 100)
    ]
    save_file({"frames": torch.cat([part.round().to(torch.uint8) for part in parts])}, file)


def load_clips(file: Path) -> torch.Tensor:
    return load_file(file)["frames"]


def to_pixels(frames: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 frames `(..., 3, H, W)` for the model."""
    processor = TS2NetVideoProcessor()
    mean, deviation = (255 * torch.tensor(each)[:, None, None] for each in (processor.image_mean, processor.image_std))
    return (frames - mean) / deviation


def shares(searched: list[Scene], *parts: str) -> torch.Tensor:
    """Compute the share of each patch that the given parts of a scene cover: `(clips, T, N)`."""
    every = [patch_shares(scene, PATCHES_PER_SIDE) for scene in searched]
    return torch.from_numpy(np.stack([sum(each[part] for part in parts) for each in every]))


class Captions:
    """The tokens of all captions of a split."""

    def __init__(self, searched: list[Scene], tokenizer: CLIPTokenizer) -> None:
        texts = [scene.caption for scene in searched]
        words = tokenizer(texts, padding=True, return_tensors="pt")
        self.ids, self.mask = words["input_ids"], words["attention_mask"]
        # Clips with the same caption are not each other's negatives.
        digests = [hashlib.sha256(text.encode()).digest()[:7] for text in texts]
        self.keys = torch.tensor([int.from_bytes(digest, "big") for digest in digests])
