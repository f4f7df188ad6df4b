"""A few texts against videos, one video at a time, for the command line.

Notable here: unlike the pipeline, a video that can't be read costs only itself.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import validate_repo_id

from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor


@dataclass(frozen=True)
class TextScores:
    """What one video scores.

    Args:
        scores: One a text.
        seconds: For each text, the second of the video that it fits best.
    """

    scores: list[float]
    seconds: list[float]


class Scorer:
    """A loaded model with a few encoded texts, to hold against one video after another.

    Args:
        model: The model.
        processor: Its processor.
        texts: The texts.
    """

    def __init__(self, model: TS2NetModel, processor: TS2NetProcessor, texts: list[str]) -> None:
        self.model = model.eval()
        self.processor = processor
        with torch.no_grad():
            self.text_embeds = model.get_text_features(**processor(text=texts).to(model.device)).pooler_output

    @torch.no_grad()
    def score(self, video: Any) -> TextScores:
        """Score every text against one video, of any kind that the processor takes.

        Raises:
            ValueError: If the video can't be decoded, or the model gives something that is no number.
            OSError: If the video can't be opened.
        """
        inputs = self.processor(videos=[video], return_metadata=True)
        frame_times = inputs.pop("video_metadata")[0].timestamps
        inputs = inputs.to(self.model.device)
        frames = self.model.get_video_features(**inputs).pooler_output  # (1, T, D)
        embeds = (self.text_embeds, frames, inputs["padding_mask_videos"])
        scores = self.model.similarity(*embeds)[:, 0].tolist()
        if not all(map(math.isfinite, scores)):
            raise ValueError(f"{video}: the model's scores are not finite numbers; try another dtype")
        best_frames = self.model.frame_cosines(*embeds)[:, 0].argmax(dim=-1).tolist()
        return TextScores(scores, [frame_times[frame] for frame in best_frames])


def load(
    name_or_path: str, *, revision: str | None = None, dtype: str = "auto", device: str | None = None
) -> tuple[TS2NetModel, TS2NetProcessor]:
    """Load a model and its processor with the installed classes; code beside the weights is never run.

    Args:
        name_or_path: A folder, or a repository on the Hub.
        revision: Branch, tag or commit of the repository.
        dtype: Type of the weights: `"auto"` is the checkpoint's own.
        device: Such as `"cuda:1"`. `None` is a GPU if there is one.

    Raises:
        FileNotFoundError: If there is no such folder and it can't be a repository.
        ValueError: If it is no whole TS2-Net.
        OSError: If it can't be downloaded.
    """
    check_source(name_or_path)
    source = {"revision": revision or "main"}
    model, report = TS2NetModel.from_pretrained(name_or_path, **source, dtype=dtype, output_loading_info=True)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{len(missing)} of its tensors are missing, {missing[0]!r} for one")
    processor = TS2NetProcessor.from_pretrained(name_or_path, **source, trust_remote_code=False)
    if device is None:
        device = str(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    return model.to(device).eval(), processor


def check_source(name_or_path: str) -> None:
    """Check that this may be a folder or a repository, before a library goes and looks for it.

    Raises:
        FileNotFoundError: If it is no folder and can't be a repository.
        NotADirectoryError: If it is a file.
    """
    path = Path(name_or_path)
    if path.is_file():
        raise NotADirectoryError(f"{name_or_path} is a file; expected a model's folder or a repository on the Hub")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"the folder {name_or_path} has no config.json, so it holds no model")
        return
    # A mistyped folder should not be looked for on the Hub: there it may be found.
    if "/" not in name_or_path or path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {name_or_path}; a repository on the Hub is 'owner/name'")
    try:
        validate_repo_id(name_or_path)
    except ValueError:
        raise FileNotFoundError(f"there is no folder {name_or_path}") from None
