"""Files of the checkpoint: weights in float16, configuration, tokenizer, image processor and card."""

import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import torch
from transformers import CLIPImageProcessor

from ..files import write_whole
from .probes import Probes
from .training import IMAGE_SIZE, PHASES, SmallClipTraining

_QUESTIONS = {
    "cls_names_large": "[CLS] names the large thing",
    "cls_names_small": "[CLS] names the small thing, the large one's name aside",
    "patch_names_large": "the patch with most of the large thing names it",
    "patch_names_small": "the patch with most of the small thing names it",
    "patch_finds_small": "the patch nearest to the small thing's name shows it",
    "cls_names_place": "[CLS] tells the place of the largest thing, of nine",
}


def write_checkpoint(folder: Path, training: SmallClipTraining, probes: Probes) -> None:
    """Write a folder that `CLIPModel`, `CLIPTokenizer` and `CLIPImageProcessor` load. The model loads in float32."""
    clip = training.clip
    clip.half().save_pretrained(folder)
    clip.float()
    training.tokenizer.save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size).save_pretrained(folder)
    # The weights are stored in half precision, but loaded in single precision, because half is slow on a CPU.
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = str(torch.float32).removeprefix("torch.")
    write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_whole(folder / "README.md", _card(training, probes))


def _card(training: SmallClipTraining, probes: Probes) -> str:
    template = (files(__package__) / "card.md").read_text(encoding="utf-8")
    rows = [f"| {_QUESTIONS[field.name]} | {getattr(probes, field.name):.1f} |" for field in fields(probes)]
    phase_rows = [
        f"| {phase.name} | {phase.share:.0%} | {phase.others_probability:.0%} | {phase.location_probability:.0%} |"
        for phase in PHASES
    ]
    return template.format(
        parameters=sum(each.numel() for each in training.clip.parameters()) / 1e6,
        num_photos=len(training.photos),
        steps=training.steps,
        batch_size=training.batch_size,
        seed=training.seed,
        image_size=IMAGE_SIZE,
        phases="\n".join(phase_rows),
        probes="\n".join(rows),
    )
