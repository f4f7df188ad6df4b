"""`pipeline("text-video-scoring")`: scores of texts and videos, as rankings or as a matrix.

Texts are encoded once per call and videos one by one, so a generator of a million videos can be streamed. Rankings of
videos and matrices need all videos: their scores are kept in memory, but not their frames.
"""

import json
import math
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import AutoModel, Pipeline
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_ts2net import TS2NetConfig
from .modeling_ts2net import TS2NetModel, cat_texts
from .processing_ts2net import TS2NetProcessor
from .video_processing_ts2net import TS2NetVideoProcessorKwargs, as_videos, is_one_video, remembered_file

TASK = "text-video-scoring"

_TEXTS_PER_BATCH = 256
_PER_VIDEO = ("start", "end", "video_metadata")


@dataclass(frozen=True)
class VideoScores:
    """The scores of one video.

    Args:
        video: Path or address of the video; `None` if it has none, such as an array.
        texts: The texts.
        scores: The score of each text, from the model's `logits_per_text`. Empty if the video cannot be scored.
        seconds: The second of the video that fits each text best.
        error: The error of a video that cannot be scored, with `on_error="skip"`.
    """

    video: str | None
    texts: list[str]
    scores: list[float]
    seconds: list[float]
    error: Exception | None = None


@dataclass
class _Item:
    """A video with its own texts, if any, and its own settings."""

    video: Any
    texts: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class TextVideoScoringPipeline(Pipeline):
    """Score texts against videos.

    ```python
    from transformers import pipeline

    scorer = pipeline("text-video-scoring", model="path/to/a/model", trust_remote_code=True)
    scorer("dog.mp4", text=["a dog catches a frisbee", "a man slices bread"])
    # [{'text': 'a dog catches a frisbee', 'score': 24.1}, {'text': 'a man slices bread', 'score': 11.7}]
    ```

    The arguments of every pipeline (`device`, `dtype`, `batch_size`, `num_workers`, ...) have their usual meaning.

    Args:
        model: A TS2-Net, or a CLIP, which is used unchanged and scores the mean over frames.
        processor: The model's processor.
        text: Default for calls.
        group_by: Default for calls.
        top_k: Default for calls.
        best_second: Default for calls.
        on_error: Default for calls.
        kwargs: Arguments of every pipeline, and defaults for settings of the video processor (`num_frames`, ...).

    Raises:
        ValueError: If there is no processor, or a default is out of range.
        TypeError: If an argument is unknown.
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(
        self,
        model: Any,
        processor: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        group_by: str = "video",
        top_k: int | None = None,
        best_second: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> None:
        if model.config.model_type != TS2NetConfig.model_type:
            model = TS2NetModel.from_clip_model(model, as_is=True)
            if processor is not None and not isinstance(processor, TS2NetProcessor):
                processor = TS2NetProcessor.from_clip_processor(processor, model.config)
        super().__init__(model, processor=processor, **kwargs)
        if self.processor is None:
            raise ValueError("the text-video-scoring pipeline needs a processor=, to read texts and videos")
        _check_choice("group_by", group_by, ("video", "text", "matrix"))
        _check_choice("on_error", on_error, ("raise", "skip"))
        self._text = None if text is None else _checked_texts(text)
        self._one_text = isinstance(text, str)
        self._group_by = group_by
        self._top_k = _checked_top_k(top_k)
        self._best_second = best_second
        self._on_error = on_error
        self.model.eval()  # in training mode patches are selected with noise

    def __call__(
        self,
        videos: Any,
        text: str | Sequence[str] | None = None,
        *,
        group_by: str | None = None,
        top_k: int | None = None,
        best_second: bool | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score texts against videos.

        Args:
            videos: One video, a list of videos, or a stream that yields them one by one: a generator, a datasets
                column, `KeyDataset(dataset, "video")`, or a whole dataset with a column `video`. A video is anything
                that the video processor accepts, or a row `{"video": ...}` with optional fields `text` (a text or a
                list), `start` and `end`.
            text: A text or a list of texts. `None`: the texts of the constructor, or else the texts of the rows.
            group_by: `"video"` (the texts of each video, best first), `"text"` (the videos of each text, best first)
                or `"matrix"` (all scores).
            top_k: Return only the first entries of each ranking.
            best_second: Also return the second at which each video fits each text best.
            on_error: `"raise"`, or `"skip"` to continue when a video cannot be read or scored.
            kwargs: `batch_size` (videos per forward pass), `num_workers` (processes that decode), and settings of the
                video processor for this call: `num_frames`, `fps`, ... For a list of videos, `start`, `end` and
                `video_metadata` may be lists with one entry per video.

        Returns:
            With `"video"`: a list of `{"text", "score"}` for one video; a list of such lists for a list of videos; an
            iterator over such lists for a stream. A skipped video has `{"error": message}` in place of its list.

            With `"text"`: a list of `{"index", "video", "score"}` for one text; a list of such lists for a list of
            texts. `index` is the video's position in the input, from 0, and `video` its path or address, if it has
            one. Skipped videos are left out.

            With `"matrix"`: `{"scores"}`, a tensor of shape `(texts, videos)`. The scores of skipped videos are NaN,
            and `"errors"` holds their messages by index.

            With `best_second`, entries also have `"second"`, and the matrix has `"seconds"` of the same shape. Scores
            are the model's `logits_per_text`.

        Raises:
            ValueError: If there is no text, an argument is out of range, or a video cannot be read or scored.
            OSError: If a video cannot be opened.
            TypeError: If an argument is unknown or a video is of an unknown kind.
        """
        group_by = self._group_by if group_by is None else group_by
        _check_choice("group_by", group_by, ("video", "text", "matrix"))
        top_k = self._top_k if top_k is None else _checked_top_k(top_k)
        best_second = self._best_second if best_second is None else best_second
        one_text = self._one_text if text is None else isinstance(text, str)
        if text is None and self._text is None and group_by != "video":
            raise ValueError(f"group_by={group_by!r} compares videos by the same texts: give text")

        scored = self.stream(videos, text, on_error=on_error, **kwargs)
        if group_by == "video":
            rankings = (self._texts_of(video, top_k, best_second) for video in scored)
            if _is_stream(videos):
                return rankings
            return next(rankings) if _is_one(videos) else list(rankings)

        rows = list(scored)
        if not rows:
            raise ValueError("there is no video to score: expected at least one")
        texts = range(len(rows[0].texts))
        if group_by == "matrix":
            return self._matrix(rows, best_second)
        by_text = [self._videos_of(index, rows, top_k, best_second) for index in texts]
        return by_text[0] if one_text else by_text

    def stream(
        self, videos: Any, text: str | Sequence[str] | None = None, *, on_error: str | None = None, **kwargs: Any
    ) -> Iterator[VideoScores]:
        """Score videos one by one, in their order, without keeping results.

        Args:
            videos: See `__call__`.
            text: See `__call__`.
            on_error: `"raise"`, or `"skip"` to yield the error of a video that cannot be read or scored.
            kwargs: See `__call__`.

        Returns:
            An iterator over the scores of each video.

        Raises:
            ValueError: If there is no text, an argument is out of range, or a video cannot be read or scored.
            OSError: If a video cannot be opened.
            TypeError: If an argument is unknown or a video is of an unknown kind.
        """
        kwargs |= {
            name: operator.index(kwargs[name])
            for name in ("batch_size", "num_workers")
            if kwargs.get(name) is not None
        }
        on_error = self._on_error if on_error is None else on_error
        _check_choice("on_error", on_error, ("raise", "skip"))
        texts = self._text if text is None else _checked_texts(text)
        items = _items(videos, texts is None, kwargs)
        if texts is not None:
            kwargs |= {"texts": texts, "text_embeds": self._encode(texts)}
        return iter(super().__call__(items, on_error=on_error, **kwargs))

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model, the processor and this pipeline's code in a folder that `pipeline` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)
        custom_object_save(self, save_directory)
        register_in_folder(save_directory)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        settings = {
            name: kwargs.pop(name) for name in list(kwargs) if name in TS2NetVideoProcessorKwargs.__annotations__
        }
        scoring: dict[str, Any] = {n: kwargs.pop(n) for n in ("texts", "text_embeds") if n in kwargs}
        if "on_error" in kwargs:
            settings["on_error"] = scoring["on_error"] = kwargs.pop("on_error")
        if kwargs:
            raise TypeError(f"unknown argument {sorted(kwargs)[0]!r} of the text-video-scoring pipeline")
        return settings, {}, scoring

    def preprocess(self, input_: Any, on_error: str = "raise", **settings: Any) -> dict[str, Any]:
        """Decode and process one video."""
        settings |= input_.settings | {"return_metadata": True, "return_tensors": "pt", "do_pad": True}
        error = None
        try:
            inputs = self.processor.video_processor([input_.video], **settings)
            pixels, mask = inputs["pixel_values_videos"], inputs["padding_mask_videos"]
            timestamps = inputs["video_metadata"][0].timestamps
        except (ValueError, OSError) as caught:
            if on_error == "raise":
                raise
            error = caught.with_traceback(None)  # a traceback would keep the frames in memory
            crop = self.processor.video_processor.crop_size
            pixels = torch.zeros(1, 1, 3, crop["height"], crop["width"])  # padding, so that the video can be batched
            mask = torch.zeros(1, 1, dtype=torch.bool)
            timestamps = []
        times = torch.zeros(mask.shape)  # (1, T)
        times[0, : len(timestamps)] = torch.tensor(timestamps)
        return {
            "pixel_values_videos": pixels,
            "padding_mask_videos": mask,
            "frame_times": times,
            "video": _name(input_.video),
            "texts": input_.texts,
            "error": error,
        }

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> dict[str, Any]:
        pixels, mask = input_tensors.pop("pixel_values_videos"), input_tensors["padding_mask_videos"]
        readable = mask.any(dim=1)
        embeds = torch.zeros(*mask.shape, self.model.config.projection_dim, device=pixels.device)  # (B, T, D)
        if bool(readable.any()):
            embeds[readable] = self.model.get_video_features(pixels[readable], mask[readable]).frame_embeds.float()
        return {"video_embeds": embeds, **input_tensors}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        texts: list[str] | None = None,
        text_embeds: torch.Tensor | None = None,
        on_error: str = "raise",
    ) -> VideoScores:
        """Score one video against its texts."""
        name, error = model_outputs["video"], model_outputs["error"]
        if texts is None or text_embeds is None:
            texts = list(model_outputs["texts"])
            text_embeds = self._encode(texts) if error is None else None
        if error is not None or text_embeds is None:
            return VideoScores(name, texts, [], [], error)
        embeds = (text_embeds, model_outputs["video_embeds"], model_outputs["padding_mask_videos"])
        with torch.no_grad():
            scores = self.model.similarity(*embeds)[:, 0].tolist()
            best_frames = self.model.best_frames(*embeds)[:, 0]
        if not all(map(math.isfinite, scores)):
            error = ValueError(f"{name or 'a video'}: the model's scores are not finite numbers; try another dtype")
            if on_error == "raise":
                raise error
            return VideoScores(name, texts, [], [], error)
        return VideoScores(name, texts, scores, model_outputs["frame_times"][0, best_frames].tolist())

    def _encode(self, texts: list[str]) -> torch.Tensor:
        """Encode texts for `similarity`, with the result on the CPU."""
        embeds = []
        for first in range(0, len(texts), _TEXTS_PER_BATCH):
            inputs = self.processor(text=texts[first : first + _TEXTS_PER_BATCH])
            with self.device_placement(), self.get_inference_context()():
                inputs = self._ensure_tensor_on_device(dict(inputs), device=self.device)
                embeds.append(self.model.get_text_features(**inputs).matching_embeds.cpu())
        return cat_texts(embeds)

    @staticmethod
    def _texts_of(video: VideoScores, top_k: int | None, best_second: bool) -> Any:
        if video.error is not None:
            return {"error": str(video.error)}
        return [
            {"text": video.texts[index], "score": video.scores[index]}
            | ({"second": video.seconds[index]} if best_second else {})
            for index in _best_first(video.scores)[:top_k]
        ]

    @staticmethod
    def _videos_of(text: int, videos: list[VideoScores], top_k: int | None, best_second: bool) -> list[dict[str, Any]]:
        readable = [index for index, video in enumerate(videos) if video.error is None]
        order = _best_first([videos[index].scores[text] for index in readable])
        return [
            {"index": index, "video": videos[index].video, "score": videos[index].scores[text]}
            | ({"second": videos[index].seconds[text]} if best_second else {})
            for index in (readable[rank] for rank in order[:top_k])
        ]

    @staticmethod
    def _matrix(videos: list[VideoScores], best_second: bool) -> dict[str, Any]:
        nothing = [math.nan] * len(videos[0].texts)
        matrix: dict[str, Any] = {"scores": torch.tensor([video.scores or nothing for video in videos]).t()}
        if best_second:
            matrix["seconds"] = torch.tensor([video.seconds or nothing for video in videos]).t()
        errors = {index: str(video.error) for index, video in enumerate(videos) if video.error is not None}
        return matrix | ({"errors": errors} if errors else {})


def register_in_folder(folder: str | os.PathLike) -> None:
    """Register this pipeline in a folder's `config.json`, so that `pipeline` loads its code from the same folder."""
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    implementation = f"pipeline_ts2net.{TextVideoScoringPipeline.__name__}"
    config["custom_pipelines"] = {TASK: {"impl": implementation, "pt": ["AutoModel"], "type": "multimodal"}}
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


class _Items(Dataset):
    """The items of a list, a column or a map-style dataset. Each item is read on access."""

    def __init__(self, videos: Any, needs_texts: bool, settings: list[dict[str, Any]] | None = None) -> None:
        self._videos = videos
        self._needs_texts = needs_texts
        self._settings = settings  # one entry per video

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> _Item:
        item = _item(self._videos[index], self._needs_texts)
        if self._settings is not None:
            item.settings |= self._settings[index]
        return item


def _items(videos: Any, needs_texts: bool, kwargs: dict[str, Any]) -> Any:
    """Convert videos to items. Settings that differ between videos are moved from the arguments to the items."""
    per_video = [name for name in _PER_VIDEO if isinstance(kwargs.get(name), (list, tuple))]
    if not _is_stream(videos):
        videos = [videos] if _is_row(videos) else as_videos(videos)
        for name in per_video:
            if len(kwargs[name]) != len(videos):
                raise ValueError(f"{name} has {len(kwargs[name])} entries for {len(videos)} videos")
        columns = {name: kwargs.pop(name) for name in per_video}
        settings = [{name: column[index] for name, column in columns.items()} for index in range(len(videos))]
        return _Items(videos, needs_texts, settings)
    if per_video:
        raise ValueError(f"a list for one of {', '.join(_PER_VIDEO)} needs a list of videos, not a stream")
    if hasattr(videos, "__len__") and hasattr(videos, "__getitem__"):
        return _Items(videos, needs_texts)
    return (_item(video, needs_texts) for video in videos)


def _item(value: Any, needs_texts: bool) -> _Item:
    row = value if _is_row(value) else {"video": value}
    texts = None
    if needs_texts:
        if row.get("text") is None:
            raise ValueError("text is missing: give text, or rows {'video': ..., 'text': ...}")
        texts = _checked_texts(row["text"])
    settings = {name: row[name] for name in ("start", "end") if row.get(name) is not None}
    return _Item(row["video"], texts, settings)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and "video" in value


def _is_one(videos: Any) -> bool:
    return _is_row(videos) or is_one_video(videos)


def _is_stream(videos: Any) -> bool:
    """Whether `videos` is a stream that yields videos one by one rather than a video or a list of videos."""
    if isinstance(videos, (list, tuple, str, bytes, bytearray, memoryview)) or hasattr(videos, "read"):
        return False
    # The datasets library has classes of its own, which are recognised by their column names.
    return isinstance(videos, (Dataset, IterableDataset, Iterator, Sequence)) or hasattr(videos, "column_names")


def _name(video: Any) -> str | None:
    """Return the path or address of a video, or `None`."""
    video = remembered_file(video)
    if isinstance(video, dict):
        video = video.get("path")
    video = getattr(video, "name", video) if hasattr(video, "read") else video
    return os.fsdecode(video) if isinstance(video, (str, os.PathLike)) else None


def _checked_texts(text: Any) -> list[str]:
    texts = [text] if isinstance(text, str) else list(text) if isinstance(text, Iterable) else []
    if not texts or not all(isinstance(entry, str) for entry in texts):
        raise ValueError(f"text must be a string or a list of at least one, got {text!r}")
    return texts


def _checked_top_k(top_k: Any) -> int | None:
    if top_k is None:
        return None
    try:
        count = 0 if isinstance(top_k, bool) else operator.index(top_k)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"top_k must be a whole number from 1, got {top_k!r}")
    return count


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        expected = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _best_first(scores: list[float]) -> list[int]:
    """Return the indices of the scores from the highest to the lowest. Equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=TextVideoScoringPipeline, pt_model=AutoModel, type="multimodal"
    )

__all__ = ["TextVideoScoringPipeline", "VideoScores"]
