"""Training of the small CLIP: CLIP's loss on rendered photos, and a loss that aligns patches with names of things.

- CLIP's own loss reaches patches only through [CLS], so in a small model the projected patches are not aligned with
  texts. The second loss is similar to FILIP's (Yao et al. 2022, arXiv 2111.07783): the name of a thing is compared
  with all patches of a photo, and the score of the pair is a soft maximum over the patches.
- Captions of the first phase may name several things. Later captions name only the largest thing, as captions on the
  web do, so [CLS] represents small things less well than the patches do.
- Random numbers are seeded by the step, so a resumed run gives the same result as an uninterrupted run.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ..benchmarks.moving_things import LOCATIONS, THINGS, Photo, photos, phrase, render_photo, scenes
from ..files import whole_file
from ..videos.rendering import draw_in_processes
from .tokenizer import TEXT_LENGTH, train_tokenizer

IMAGE_SIZE, PATCH_SIZE = 56, 8
MEAN = 255 * torch.tensor([0.48145466, 0.4578275, 0.40821073])  # as in CLIP, for 8-bit values
DEVIATION = 255 * torch.tensor([0.26862954, 0.26130258, 0.27577711])

_WIDTH, _VISION_LAYERS, _TEXT_LAYERS = 96, 4, 3
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 0.05
_MAX_LOGIT_SCALE, _MAX_PATCH_SCALE = math.log(100), math.log(30)
_PHOTOS_A_JOB = 500


@dataclass(frozen=True)
class Phase:
    """Phase of the training, which defines the content of captions.

    Attributes:
        name: Name of the phase.
        share: Share of the training steps.
        others_probability: Probability that a caption names each thing other than the largest.
        location_probability: Probability that a caption names the location of the largest thing.
    """

    name: str
    share: float
    others_probability: float
    location_probability: float


PHASES = (
    Phase("all things", 0.5, others_probability=0.3, location_probability=0.6),
    Phase("the largest thing and its place", 0.5, others_probability=0.0, location_probability=1.0),
)


def phase_at(step: int, steps: int) -> Phase:
    """Return the phase of a step, counted from 0."""
    end = 0.0
    for phase in PHASES:
        end += phase.share
        if step < round(end * steps):
            return phase
    return PHASES[-1]


def make_tokenizer() -> CLIPTokenizer:
    """Train a CLIP tokenizer that encodes each word of the benchmark's captions as one token."""
    locations = [location for row in LOCATIONS for location in row]
    named = [f"{phrase(thing)} {locations[index % len(locations)]}" for index, thing in enumerate(THINGS)]
    return train_tokenizer([*named, *locations, *(scene.caption for scene in scenes("train", 1000))])


def make_model(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """Create the untrained CLIP.

    The embeddings are initialised at the scale of the values they are added to. Otherwise a short run does not learn
    locations.
    """
    layers: dict[str, Any] = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_attention_heads": _WIDTH // 32,
        "hidden_act": "gelu",
    }
    text = layers | {
        "num_hidden_layers": _TEXT_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = layers | {"num_hidden_layers": _VISION_LAYERS, "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH))
        clip.vision_model.embeddings.position_embedding.weight.normal_(std=0.5)
        clip.text_model.embeddings.token_embedding.weight.normal_(std=0.4)
        clip.text_model.embeddings.position_embedding.weight.normal_(std=0.2)
    clip.set_attn_implementation("eager")  # the fastest implementation for so few tokens
    return clip


class SmallClipTraining:
    """Training loop of the small CLIP.

    Args:
        tokenizer: The CLIP's tokenizer.
        seed: Seed of the weights, the photos and the random choices of each step.
        steps: Number of training steps.
        num_photos: Number of photos to train on.
        batch_size: Photos per step.
        workers: Number of rendering processes; 0 uses only this process.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, *, seed: int, steps: int, num_photos: int, batch_size: int, workers: int
    ) -> None:
        self.tokenizer, self.seed, self.steps, self.batch_size = tokenizer, seed, steps, batch_size
        self.step = 0
        self.clip = make_model(tokenizer, seed)
        self.patch_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.photos = photos(num_photos, seed)
        self.pictures = render_photos(self.photos, workers)  # (num_photos, side, side, 3), uint8
        self.contents = torch.zeros(num_photos, len(THINGS), dtype=torch.bool)  # things in each photo
        for index, photo in enumerate(self.photos):
            self.contents[index, [THINGS.index(thing) for thing in photo.things]] = True
        self.names = tokenizer([phrase(thing) for thing in THINGS], padding=True, return_tensors="pt")
        parameters = [*self.clip.parameters(), self.patch_scale]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in parameters if each.ndim > 1], "weight_decay": _WEIGHT_DECAY},
                {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=_LEARNING_RATE,
            betas=(0.9, 0.98),
            eps=1e-6,
        )

    def train(self) -> Iterator[dict[str, float]]:
        """Run the remaining steps, and yield the losses after each step."""
        self.clip.train()
        while self.step < self.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * _warm_up_and_cosine(self.step, self.steps)
            contrast, patches = self._losses()
            self.optimizer.zero_grad()
            (contrast + patches).backward()
            nn.utils.clip_grad_norm_(self.clip.parameters(), 1.0)
            self.optimizer.step()
            with torch.no_grad():
                self.clip.logit_scale.clamp_(max=_MAX_LOGIT_SCALE)
                self.patch_scale.clamp_(max=_MAX_PATCH_SCALE)
            self.step += 1
            yield {"clip": contrast.item(), "patches": patches.item()}

    def save_state(self, path: Path) -> None:
        """Write the state of the training for `load_state`."""
        state = {"clip": self.clip.state_dict(), "patch_scale": self.patch_scale.data, "step": self.step}
        state |= {"optimizer": self.optimizer.state_dict(), "settings": self._settings}
        with whole_file(path) as partial:
            torch.save(state, partial)

    def load_state(self, path: Path) -> None:
        """Restore the state of an interrupted run.

        Raises:
            ValueError: If the interrupted run had different settings.
        """
        state = torch.load(path, weights_only=True)
        if state["settings"] != self._settings:
            raise ValueError(f"{path}: a run with settings {state['settings']}, expected {self._settings}")
        self.clip.load_state_dict(state["clip"])
        self.patch_scale.data.copy_(state["patch_scale"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    @property
    def _settings(self) -> dict[str, Any]:
        vocabulary = json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode()
        return {
            "vocabulary": hashlib.sha256(vocabulary).hexdigest()[:16],
            "seed": self.seed,
            "steps": self.steps,
            "num_photos": len(self.photos),
            "batch_size": self.batch_size,
        }

    def _losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute CLIP's loss and the patch loss of the current step."""
        random = np.random.default_rng([self.seed, self.step])
        chosen = random.integers(len(self.photos), size=self.batch_size)
        captions = [_caption(self.photos[index], phase_at(self.step, self.steps), random) for index in chosen]
        pixels = _vary(self.pictures[chosen], random)
        words = self.tokenizer(captions, padding=True, return_tensors="pt")
        tokens = project_tokens(self.clip, pixels)  # (B, 1 + N, D)
        texts = self.clip.text_projection(self.clip.text_model(**words).pooler_output)
        names = self.clip.text_projection(self.clip.text_model(**self.names).pooler_output)
        tokens, texts, names = (F.normalize(each, dim=-1) for each in (tokens, texts, names))
        logits = self.clip.logit_scale.exp() * texts @ tokens[:, 0].T
        # Photos with the same caption are not negatives of each other.
        keys = torch.tensor([captions.index(caption) for caption in captions])
        alike = (keys[:, None] == keys) & ~torch.eye(len(keys), dtype=torch.bool)
        contrast = _symmetric_cross_entropy(logits.masked_fill(alike, -torch.inf))
        patches = patch_loss(tokens[:, 1:], names, self.contents[chosen], self.patch_scale.exp())
        return contrast, patches


def patch_loss(
    patches: torch.Tensor, names: torch.Tensor, contents: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Compute the mean of two cross-entropies of the scores of photos and names: over the names and over the photos.

    The score of a photo and a name is the logsumexp, over the patches, of their scaled cosine with the name.

    Args:
        patches: Projected patches of norm 1, `(B, N, D)`.
        names: Embeddings of names, of norm 1, `(names, D)`.
        contents: True for names of things in a photo, `(B, names)`, bool. Such pairs are never used as negatives.
        scale: Factor of the cosines.

    Returns:
        A scalar.
    """
    scores = torch.logsumexp(scale * (patches @ names.T), dim=1)  # (B, names)
    photo, name = contents.nonzero(as_tuple=True)
    others_in_photo = contents[photo] & (torch.arange(len(names)) != name[:, None])
    others_with_name = contents.T[name] & (torch.arange(len(patches)) != photo[:, None])
    over_names = F.cross_entropy(scores[photo].masked_fill(others_in_photo, -torch.inf), name)
    over_photos = F.cross_entropy(scores.T[name].masked_fill(others_with_name, -torch.inf), photo)
    return (over_names + over_photos) / 2


def project_tokens(clip: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Project all tokens of pictures, [CLS] first, to the space of text embeddings: `(B, 1 + N, D)`."""
    hidden = clip.vision_model(pixel_values=pixels).last_hidden_state
    return clip.visual_projection(clip.vision_model.post_layernorm(hidden))


def render_photos(some: Sequence[Photo], workers: int) -> np.ndarray:
    """Render photos at the CLIP's input size: `(photos, IMAGE_SIZE, IMAGE_SIZE, 3)`, uint8."""
    return draw_in_processes(_render, some, items_a_job=_PHOTOS_A_JOB, workers=workers)


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """Normalise 8-bit pictures `(..., H, W, 3)` to the model's input `(..., 3, H, W)`."""
    return ((torch.from_numpy(pictures).float() - MEAN) / DEVIATION).movedim(-1, -3)


def shrink(pictures: np.ndarray) -> np.ndarray:
    """Resize pictures `(n, H, W, 3)` to the model's input size, `(n, IMAGE_SIZE, IMAGE_SIZE, 3)`."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC)) for each in pictures])


def _render(some: Sequence[Photo]) -> np.ndarray:
    return shrink(np.stack([render_photo(photo) for photo in some]))


def _caption(photo: Photo, phase: Phase, random: np.random.Generator) -> str:
    also = tuple(index for index in range(1, len(photo.things)) if random.random() < phase.others_probability)
    return photo.caption(with_location=random.random() < phase.location_probability, also=also)


def _vary(pictures: np.ndarray, random: np.random.Generator) -> torch.Tensor:
    """Augment pictures: shift them by up to 2 pixels, add noise as in a video, and vary the contrast."""
    shift = tuple(random.integers(-2, 3, 2))
    moved = np.roll(pictures, shift, axis=(1, 2)) + random.normal(0, 3, pictures.shape)
    contrast = torch.from_numpy(random.normal(1, 0.1, (len(pictures), 3, 1, 1)).astype(np.float32))
    return to_pixels(moved.astype(np.float32)) * contrast


def _symmetric_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _warm_up_and_cosine(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up and cosine decay."""
    return min(1.0, (step + 1) / (0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3
