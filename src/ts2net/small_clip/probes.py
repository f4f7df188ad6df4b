"""Probes of a CLIP: how well [CLS] and the patches represent the things in a picture and their locations."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPTokenizer

from ..benchmarks.moving_things import LOCATIONS, SEEN_FRAMES, THINGS, patch_shares, photos, phrase, render, scenes
from .training import IMAGE_SIZE, PATCH_SIZE, project_tokens, render_photos, shrink, to_pixels

_PROBED_SEED = 7  # seed of the probed clips and photos; not used elsewhere


@dataclass(frozen=True)
class Probes:
    """Accuracies of the probes in percent. "Nearest" names are chosen among the names of all things.

    Attributes:
        cls_names_large: [CLS] is nearest to the name of the large thing.
        cls_names_small: [CLS] is nearest to the name of the small thing, when the name of the large thing is excluded.
        patch_names_large: The patch that the large thing covers most is nearest to the large thing's name.
        patch_names_small: The patch that the small thing covers most is nearest to the small thing's name.
        patch_finds_small: The patch that is nearest to the name of the small thing shows part of the small thing.
        cls_names_place: [CLS] is nearest to the correct one of nine captions, of the largest thing at each location.
    """

    cls_names_large: float
    cls_names_small: float
    patch_names_large: float
    patch_names_small: float
    patch_finds_small: float
    cls_names_place: float


@torch.inference_mode()
def probe(clip: CLIPModel, tokenizer: CLIPTokenizer, num_clips: int = 200) -> Probes:
    """Probe a CLIP with frames of test clips that have a small thing and no companion, and with photos."""
    was_training = clip.training
    clip.eval()
    probed = [each for each in scenes("test", 500, _PROBED_SEED) if each.small and not each.companion][:num_clips]
    shares = [patch_shares(scene, IMAGE_SIZE // PATCH_SIZE) for scene in probed]
    frames = [int(each["small"].sum(axis=1).argmax()) for each in shares]  # the frame with most of the small thing
    pictures = np.stack([render(scene)[SEEN_FRAMES[frame]] for scene, frame in zip(probed, frames, strict=True)])
    tokens = F.normalize(project_tokens(clip, to_pixels(shrink(pictures))), dim=-1)  # (clips, 1 + N, D)
    cosines = tokens @ _embed(clip, tokenizer, [phrase(thing) for thing in THINGS]).T  # (clips, 1 + N, things)
    every = torch.arange(len(probed))
    large = torch.tensor([THINGS.index(scene.thing) for scene in probed])
    small = torch.tensor([THINGS.index(scene.small or "") for scene in probed])
    of_large, of_small = (
        torch.from_numpy(np.stack([each[part][frame] for each, frame in zip(shares, frames, strict=True)]))
        for part in ("thing", "small")
    )
    without_large = cosines[:, 0].clone()
    without_large[every, large] = -torch.inf
    nearest_patch = cosines[every, 1:, small].argmax(dim=-1)
    answers = {
        "cls_names_large": cosines[:, 0].argmax(dim=-1) == large,
        "cls_names_small": without_large.argmax(dim=-1) == small,
        "patch_names_large": cosines[every, 1 + of_large.argmax(dim=-1)].argmax(dim=-1) == large,
        "patch_names_small": cosines[every, 1 + of_small.argmax(dim=-1)].argmax(dim=-1) == small,
        "patch_finds_small": of_small[every, nearest_patch] > 0,
        "cls_names_place": _names_location(clip, tokenizer, num_clips),
    }
    clip.train(was_training)
    return Probes(**{name: 100 * answer.float().mean().item() for name, answer in answers.items()})


def _names_location(clip: CLIPModel, tokenizer: CLIPTokenizer, count: int) -> torch.Tensor:
    some = photos(count, _PROBED_SEED)
    locations = [location for row in LOCATIONS for location in row]
    texts = _embed(
        clip, tokenizer, [f"{phrase(photo.things[0])} {location}" for photo in some for location in locations]
    )
    pictures = F.normalize(project_tokens(clip, to_pixels(render_photos(some, 0)))[:, 0], dim=-1)
    cosines = torch.einsum("bd,bpd->bp", pictures, texts.unflatten(0, (len(some), len(locations))))
    return cosines.argmax(dim=-1) == torch.tensor([locations.index(photo.location()) for photo in some])


def _embed(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    words = tokenizer(texts, padding=True, return_tensors="pt")
    return F.normalize(clip.text_projection(clip.text_model(**words).pooler_output), dim=-1)
