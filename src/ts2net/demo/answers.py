"""Search results of the demo's model, and the patches that it selected."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..benchmarks.moving_things import GROUP_SIZE, Scene, patch_shares
from ..explanation import DrawnFrame, drawn_frames, explain
from ..hub.loading import load_model
from ..tables import best_first
from .clips import Clip

_SEED = 2022  # seed of the choice of captions on the page
_ON_A_THING = 0.2  # a patch shows a thing if things cover at least this share of its pixels
_CLIPS_A_BATCH = 50


@dataclass(frozen=True)
class Answer:
    """The first hit for a caption.

    Attributes:
        caption: The caption.
        clip: The first hit.
        is_right: Whether the caption belongs to the first hit.
        rank: Rank of the clip that the caption belongs to, from 1.
    """

    caption: str
    clip: Clip
    is_right: bool
    rank: int


@dataclass(frozen=True)
class LookedAt:
    """A clip with a small thing, and the patches selected in its frames.

    Attributes:
        answer: The first hit for the clip's caption among the clips that differ only in the small thing.
        frames: The sampled frames of the clip, with the selected patches outlined.
    """

    answer: Answer
    frames: Sequence[DrawnFrame]


@dataclass(frozen=True)
class Share:
    """Percentages of the selected patches and of all patches that show a thing."""

    selected: float
    all: float


Scores = Mapping[str, Mapping[str, float]]
"""Scores by text, and then by the id of a clip."""


def draw_captions(clips: Sequence[Clip], scores: Scores, count: int) -> list[Answer]:
    """Draw captions with a fixed seed, independently of the scores, and return their answers."""
    drawn = random.Random(_SEED).sample(clips, min(count, len(clips)))
    return [answer(clip.scene, clips, scores) for clip in drawn]


def found_first(clips: Sequence[Clip], scores: Scores) -> list[str]:
    """Return the captions whose own clip is the first hit, in the order of the clips."""
    captions = [clip.scene.caption for clip in clips if answer(clip.scene, clips, scores).is_right]
    return list(dict.fromkeys(captions))


def groups(clips: Sequence[Clip], count: int) -> list[Sequence[Clip]]:
    """Return the first `count` groups of a diagnostic split, in which the clips of a group are consecutive."""
    return [clips[first : first + GROUP_SIZE] for first in range(0, count * GROUP_SIZE, GROUP_SIZE)]


def answer(scene: Scene, clips: Sequence[Clip], scores: Scores) -> Answer:
    """Return the answer for the caption of a scene when `clips` are searched."""
    row = [scores[scene.caption][clip.scene.video_id] for clip in clips]
    first = clips[best_first(row)[0]]
    target_score = scores[scene.caption][scene.video_id]
    rank = 1 + sum(
        score >= target_score for clip, score in zip(clips, row, strict=True) if clip.scene.video_id != scene.video_id
    )
    return Answer(scene.caption, first, first.scene.video_id == scene.video_id, rank)


def look_at(model: Path, chosen: Sequence[Sequence[Clip]], scores: Scores) -> list[LookedAt]:
    """Return the first clip of each group, with its selected patches.

    Args:
        model: Folder of the model that computed the scores.
        chosen: Groups of clips.
        scores: Scores of the captions of these clips.
    """
    network, processor = load_model(model)
    looked_at = []
    for group in chosen:
        scene = group[0].scene
        frames = drawn_frames(explain(network, processor, group[0].path, [scene.caption]))
        looked_at.append(LookedAt(answer(scene, group, scores), frames))
    return looked_at


@torch.inference_mode()
def share_on_things(model: Path, clips: Sequence[Clip]) -> Share:
    """Compute the percentages of a model's selected patches, and of all patches of the clips, that show a thing."""
    network, processor = load_model(model)
    selected, shown = [], []
    for first in range(0, len(clips), _CLIPS_A_BATCH):
        batch = clips[first : first + _CLIPS_A_BATCH]
        inputs = processor.video_processor([str(clip.path) for clip in batch])
        selected.append(network.get_video_features(**inputs).selected_token_indices.numpy() - 1)  # (n, T, K)
    vision = network.config.vision_config
    for clip in clips:
        shares = patch_shares(clip.scene, vision.image_size // vision.patch_size)
        shown.append(sum(shares.values()) >= _ON_A_THING)  # (T, N)
    things = np.stack(shown)
    on_things = np.take_along_axis(things, np.concatenate(selected), axis=-1)
    return Share(100 * float(on_things.mean()), 100 * float(things.mean()))
