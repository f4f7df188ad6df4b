"""`pipeline("text-video-scoring")`: which text says what a video shows, and which video shows what a text says.

Notable here: texts are encoded once a call and videos one after another, so a generator of a million videos streams
through; only where the answer needs all videos at once are their scores, never their frames, kept.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import AutoModel, Pipeline
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines import PIPELINE_REGISTRY

from .video_processing_ts2net import TS2NetVideosKwargs, as_videos, is_one_video

TASK = "text-video-scoring"
# What a config.json says of this pipeline, for `pipeline` to find it in the file beside the weights.
CUSTOM_PIPELINES = {
    TASK: {"impl": "pipeline_ts2net.TextVideoScoringPipeline", "pt": ["AutoModel"], "type": "multimodal"}
}

_TEXTS_A_BATCH = 256
_ONE_A_VIDEO = ("start", "end", "video_metadata")


@dataclass
class _Moment:
    """A part of a video, in seconds."""

    video: Any
    start: float | None
    end: float | None
    video_metadata: Any


class TextVideoScoringPipeline(Pipeline):
    """Score texts against videos.

    ```python
    from transformers import pipeline

    scorer = pipeline("text-video-scoring", model="path/to/a/model", trust_remote_code=True)
    scorer("dog.mp4", text=["a dog catches a frisbee", "a man slices bread"])
    # [{'text': 'a dog catches a frisbee', 'score': 24.1}, {'text': 'a man slices bread', 'score': 11.7}]
    ```

    The usual arguments of a pipeline (`device`, `dtype`, `batch_size`, `num_workers`, ...) have their usual meaning.
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.processor is None:
            raise ValueError("the text-video-scoring pipeline needs a processor=, to read texts and videos")
        self.model.eval()  # a model fresh from training would still choose its patches with noise

    def __call__(
        self,
        videos: Any,
        text: str | list[str] | None = None,
        *,
        group_by: str = "video",
        top_k: int | None = None,
        best_second: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Score.

        Args:
            videos: One video, a list of them, or what yields them one by one: a generator, a datasets column, or
                `KeyDataset(dataset, "video")`. Each is of any kind that the video processor takes.
            text: A text or a list of them.
            group_by: `"video"` (each video's texts, best first), `"text"` (each text's videos, best first) or
                `"matrix"` (all scores).
            top_k: Keep only so many of each ranking.
            best_second: Also say at which second each video fits each text best.
            kwargs: `batch_size` (videos a forward pass), `num_workers` (processes that decode), and settings of the
                video processor for this call: `num_frames`, `fps`, ... `start`, `end` and `video_metadata` may be
                lists with one for each of a list of videos.

        Returns:
            By `"video"`: a list of `{"text", "score"}` for one video; a list of those for a list of videos; an
            iterator over them for what yields videos. By `"text"`: a list of `{"video", "score"}` for one text, with
            the video's place in the input from 0; a list of those for a list of texts. By `"matrix"`: `{"scores"}`, a
            tensor of shape `(texts, videos)`. With `best_second` each entry also has `"second"`, and the matrix
            `"seconds"` of the same shape. Scores are the model's `logits_per_text`.

        Raises:
            ValueError: If there is no text, an argument is out of range, or a video can't be decoded.
        """
        texts = [text] if isinstance(text, str) else list(text) if isinstance(text, Iterable) else []
        if not texts or not all(isinstance(entry, str) for entry in texts):
            raise ValueError(f"text must be a string or a list of at least one, got {text!r}")
        if group_by not in ("video", "text", "matrix"):
            raise ValueError(f"group_by must be 'video', 'text' or 'matrix', got {group_by!r}")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number from 1, got {top_k!r}")

        streams = _is_stream(videos)
        one = not streams and is_one_video(videos)
        if streams and any(isinstance(kwargs.get(name), (list, tuple)) for name in _ONE_A_VIDEO):
            raise ValueError(f"a list for one of {', '.join(_ONE_A_VIDEO)} needs a list of videos, not a stream")
        if streams and not isinstance(videos, Dataset):
            videos = (video for video in videos)
        elif not streams:
            videos = _moments(as_videos(videos), kwargs)
        scored = super().__call__(videos, text_embeds=self._encode(texts), **kwargs)

        if group_by == "video":
            rankings = (self._ranking("text", texts, scores, top_k, best_second) for scores in scored)
            return rankings if streams else next(rankings) if one else list(rankings)
        scored = list(scored)
        if not scored:
            raise ValueError("there is no video to score: expected at least one")
        scores, seconds = (torch.stack(rows, dim=1) for rows in zip(*scored, strict=True))  # (texts, videos)
        if group_by == "matrix":
            return {"scores": scores, "seconds": seconds} if best_second else {"scores": scores}
        places = list(range(scores.shape[1]))
        by_text = [
            self._ranking("video", places, row, top_k, best_second) for row in zip(scores, seconds, strict=True)
        ]
        return by_text[0] if isinstance(text, str) else by_text

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model, the processor and this pipeline's code in a folder that `pipeline` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)
        custom_object_save(self, save_directory)
        path = Path(save_directory) / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["custom_pipelines"] = CUSTOM_PIPELINES
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def _ranking(
        name: str, entries: list[Any], scored: tuple[torch.Tensor, torch.Tensor], top_k: int | None, best_second: bool
    ) -> list[dict[str, Any]]:
        scores, seconds = scored
        order = scores.argsort(descending=True, stable=True).tolist()[:top_k]
        ranking = [{name: entries[place], "score": scores[place].item()} for place in order]
        if best_second:
            for row, place in zip(ranking, order, strict=True):
                row["second"] = seconds[place].item()
        return ranking

    def _encode(self, texts: list[str]) -> torch.Tensor:
        """Text embeddings of shape `(texts, D)`, on the CPU."""
        embeds = []
        for first in range(0, len(texts), _TEXTS_A_BATCH):
            inputs = self.processor(text=texts[first : first + _TEXTS_A_BATCH])
            with self.device_placement(), self.get_inference_context()():
                inputs = self._ensure_tensor_on_device(dict(inputs), device=self.device)
                embeds.append(self.model.get_text_features(**inputs).pooler_output.cpu())
        return torch.cat(embeds)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        settings = {name: kwargs.pop(name) for name in list(kwargs) if name in TS2NetVideosKwargs.__annotations__}
        scoring = {"text_embeds": kwargs.pop("text_embeds")} if "text_embeds" in kwargs else {}
        if kwargs:
            raise TypeError(f"unknown argument {sorted(kwargs)[0]!r} of the text-video-scoring pipeline")
        return settings, {}, scoring

    def preprocess(self, input_: Any, **settings: Any) -> dict[str, torch.Tensor]:
        """Decode and process one video; its frames' times, in seconds, go with it."""
        if isinstance(input_, _Moment):
            own = {"start": input_.start, "end": input_.end, "video_metadata": input_.video_metadata}
            settings = settings | own
            input_ = input_.video
        settings = settings | {"return_metadata": True, "return_tensors": "pt", "do_pad": True}
        inputs = self.processor.video_processor([input_], **settings)
        times = torch.zeros(inputs["padding_mask_videos"].shape)  # (1, T)
        timestamps = inputs["video_metadata"][0].timestamps
        times[0, : len(timestamps)] = torch.tensor(timestamps)
        return {
            "pixel_values_videos": inputs["pixel_values_videos"],
            "padding_mask_videos": inputs["padding_mask_videos"],
            "frame_times": times,
        }

    def _forward(self, input_tensors: dict[str, torch.Tensor], **forward_parameters: Any) -> dict[str, torch.Tensor]:
        video_embeds = self.model.get_video_features(
            input_tensors["pixel_values_videos"], input_tensors["padding_mask_videos"]
        ).pooler_output
        return {
            "video_embeds": video_embeds,
            "padding_mask_videos": input_tensors["padding_mask_videos"],
            "frame_times": input_tensors["frame_times"],
        }

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], text_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of one video for each text, and the second at which it fits each best."""
        embeds = (text_embeds, model_outputs["video_embeds"], model_outputs["padding_mask_videos"])
        with torch.no_grad():
            scores = self.model.similarity(*embeds)[:, 0]
            best_frames = self.model.frame_cosines(*embeds)[:, 0].argmax(dim=-1)
        return scores, model_outputs["frame_times"][0, best_frames]


def _is_stream(videos: Any) -> bool:
    """Whether these are videos that come one by one rather than a video or a list of them."""
    if isinstance(videos, (list, tuple, str, bytes, bytearray, memoryview)) or hasattr(videos, "read"):
        return False
    return isinstance(videos, (Dataset, Iterator, Sequence))


def _moments(videos: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Join each video with its own settings, taken out of the arguments if one of them is a list."""
    if not any(isinstance(kwargs.get(name), (list, tuple)) for name in _ONE_A_VIDEO):
        return videos
    columns = []
    for name in _ONE_A_VIDEO:
        value = kwargs.pop(name, None)
        column = list(value) if isinstance(value, (list, tuple)) else [value] * len(videos)
        if len(column) != len(videos):
            raise ValueError(f"{name} has {len(column)} entries for {len(videos)} videos")
        columns.append(column)
    return [_Moment(*settings) for settings in zip(videos, *columns, strict=True)]


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=TextVideoScoringPipeline, pt_model=AutoModel, type="multimodal"
    )

__all__ = ["TextVideoScoringPipeline"]
