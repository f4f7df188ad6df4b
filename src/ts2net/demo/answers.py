"""What the demo's model finds, and where it looked."""

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

_SEED = 2022  # of the captions that the page shows
_ON_A_THING = 0.2  # of a patch: from here on it shows a thing
_CLIPS_A_BATCH = 50


@dataclass(frozen=True)
class Answer:
    """The first hit for a caption.

    Attributes:
        caption: The caption.
        clip: The hit.
        is_right: Whether the caption is the clip's own.
        rank: Rank of the clip that the caption is of, from 1.
    """

    caption: str
    clip: Clip
    is_right: bool
    rank: int


@dataclass(frozen=True)
class LookedAt:
    """A clip with a small thing, and what was selected in its frames.

    Attributes:
        answer: The first hit for the clip's caption among the clips that differ in the small thing alone.
        frames: The frames that the model saw of the clip, with the selected patches outlined.
    """

    answer: Answer
    frames: Sequence[DrawnFrame]


@dataclass(frozen=True)
class Share:
    """How many of the selected patches show a thing, and how many of all patches do, in percent."""

    selected: float
    all: float


Scores = Mapping[str, Mapping[str, float]]
"""By text, and then by the id of a clip."""


def draw_captions(clips: Sequence[Clip], scores: Scores, count: int) -> list[Answer]:
    """The answers for some captions, which a fixed seed draws before anything is known of the model."""
    drawn = random.Random(_SEED).sample(clips, min(count, len(clips)))
    return [answer(clip.scene, clips, scores) for clip in drawn]


def found_first(clips: Sequence[Clip], scores: Scores) -> list[str]:
    """The captions whose own clip is the first hit, in the order of the clips."""
    captions = [clip.scene.caption for clip in clips if answer(clip.scene, clips, scores).is_right]
    return list(dict.fromkeys(captions))


def groups(clips: Sequence[Clip], count: int) -> list[Sequence[Clip]]:
    """The first groups of a diagnostic split, whose clips follow each other."""
    return [clips[first : first + GROUP_SIZE] for first in range(0, count * GROUP_SIZE, GROUP_SIZE)]


def answer(scene: Scene, clips: Sequence[Clip], scores: Scores) -> Answer:
    """The answer for the caption of a scene among some clips."""
    row = [scores[scene.caption][clip.scene.video_id] for clip in clips]
    first = clips[best_first(row)[0]]
    target_score = scores[scene.caption][scene.video_id]
    rank = 1 + sum(
        score >= target_score for clip, score in zip(clips, row, strict=True) if clip.scene.video_id != scene.video_id
    )
    return Answer(scene.caption, first, first.scene.video_id == scene.video_id, rank)


def look_at(model: Path, chosen: Sequence[Sequence[Clip]], scores: Scores) -> list[LookedAt]:
    """The first clip of each group, with what was selected in it.

    Args:
        model: Folder of the model that computed the scores.
        chosen: Groups of clips.
        scores: Of their captions.
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
    """Compare the patches that a model selects with what the clips show."""
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
