"""Processor that turns texts and videos into the inputs of the model.

The processor loads its video processor itself and not through `AutoVideoProcessor`, which requires torchvision. Texts
for CLIP's tokenizer are cleaned as in OpenAI's CLIP and the released TS2-Net. transformers' tokenizer doesn't do this.
"""

import os
import re
from typing import Any

from transformers import AutoProcessor, CLIPTokenizer
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.video_processing_utils import VideoProcessorMixin

from .configuration_ts2net import TS2NetConfig
from .text_cleaning_ts2net import clean_text
from .video_processing_ts2net import TS2NetVideoProcessor, TS2NetVideoProcessorKwargs

_SURROGATE = re.compile("[\ud800-\udfff]")


class TS2NetProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of a call, and defaults for tokenizers without their own padding and truncation settings."""

    videos_kwargs: TS2NetVideoProcessorKwargs
    _defaults = {"text_kwargs": {"padding": True, "truncation": True}}  # noqa: RUF012


class TS2NetProcessor(ProcessorMixin):
    """A CLIP tokenizer and a [`TS2NetVideoProcessor`] in one.

    Texts are cleaned (see [`clean_text`]), lower-cased and tokenised by CLIP's tokenizer, padded to the longest, and
    truncated to the tokenizer's `model_max_length` with the end token kept. If a tokenizer was saved with its own
    padding settings, they are used.

    Args:
        tokenizer: The tokenizer of the CLIP.
        video_processor: The video processor.
        max_words: Maximum number of tokens per text in training, including the start and end tokens. It is saved with
            the processor, and evaluations truncate texts to it. `None` if unknown.
    """

    _auto_class = "AutoProcessor"
    valid_processor_kwargs = TS2NetProcessorKwargs

    def __init__(self, tokenizer: Any, video_processor: TS2NetVideoProcessor, max_words: int | None = None) -> None:
        super().__init__(tokenizer, video_processor)
        self.max_words = max_words

    def __call__(self, text: str | list[str] | None = None, videos: Any = None, **kwargs: Any) -> BatchFeature:
        """Process texts, videos or both.

        Args:
            text: A text or a list of them.
            videos: A video or a list of them, in any form that [`TS2NetVideoProcessor`] accepts.
            kwargs: Settings of the tokenizer and the video processor by their own names, or in dictionaries
                `text_kwargs` and `videos_kwargs`.

        Returns:
            `input_ids` and `attention_mask` of shape `(texts, words)`; `pixel_values_videos` of shape
            `(videos, frames, 3, H, W)` and `padding_mask_videos` of shape `(videos, frames)`; and, with
            `return_metadata=True`, `video_metadata`.

        Raises:
            ValueError: If there is neither text nor video, a text is not a string, or a video can't be decoded.
            TypeError: If a video has an unsupported type. (An unknown setting is reported and ignored, as by every
                processor of transformers.)
        """
        if isinstance(text, (list, tuple)):
            text = [self._prepared(each) for each in text]
            if not text:
                raise ValueError("text is an empty list: expected at least one text")
        elif text is not None:
            text = self._prepared(text)
        kwargs.setdefault("return_tensors", "pt")
        return super().__call__(text=text, videos=videos, **kwargs)

    def _prepared(self, text: Any) -> Any:
        """Prepare a text for the tokenizer. Other values are passed on unchanged: the tokenizer reports them."""
        if not isinstance(text, str):
            return text
        if isinstance(self.tokenizer, CLIPTokenizer):
            text = clean_text(text)
        elif _SURROGATE.search(text):
            raise ValueError(f"the text {text!a} holds half of a surrogate pair, which is no character")
        return text

    @classmethod
    def from_clip(
        cls, clip: str | os.PathLike, config: TS2NetConfig, *, revision: str = "main", **kwargs: Any
    ) -> "TS2NetProcessor":
        """Create the processor of a model that starts from a CLIP.

        Args:
            clip: The repository or folder of the CLIP, for its tokenizer and its image mean and standard deviation.
            config: The model's configuration.
            revision: Branch, tag or commit of the repository.
            kwargs: Arguments of `AutoTokenizer.from_pretrained`: `token`, `cache_dir`, `local_files_only`, ...
        """
        # The tokenizer may be of any class: a multilingual CLIP has another tokenizer than CLIP's.
        tokenizer = cls._load_tokenizer_from_pretrained("tokenizer", clip, revision=revision, **kwargs)
        images = cls.get_processor_dict(clip, revision=revision, **kwargs)[0].get("image_processor")
        if images is None:
            try:
                images, _ = TS2NetVideoProcessor.get_video_processor_dict(clip, revision=revision, **kwargs)
            except OSError:
                images = {}  # a CLIP without image settings uses the usual ones
        return cls.for_model(tokenizer, config, **_pixel_settings(images))

    @classmethod
    def from_clip_processor(cls, processor: Any, config: TS2NetConfig) -> "TS2NetProcessor":
        """Create the processor of a model that starts from a CLIP from the CLIP's processor.

        Args:
            processor: The processor of the CLIP, with its `tokenizer` and `image_processor`.
            config: The model's configuration.
        """
        return cls.for_model(processor.tokenizer, config, **_pixel_settings(processor.image_processor.to_dict()))

    @classmethod
    def for_model(cls, tokenizer: Any, config: TS2NetConfig, **video_settings: Any) -> "TS2NetProcessor":
        """Combine a tokenizer with a video processor for a model's configuration.

        Args:
            tokenizer: CLIP's tokenizer. Its `model_max_length` is lowered to the model's maximum number of tokens.
            config: The model's configuration.
            video_settings: Further settings of [`TS2NetVideoProcessor`].
        """
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
        side = config.vision_config.image_size
        video_processor = TS2NetVideoProcessor(
            num_frames=config.num_frames,
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            # The released code pads every video to `num_frames`, and its scores depend on the padding.
            pad_to="num_frames" if config.padding_mode == "released" else "longest",
            **video_settings,
        )
        return cls(tokenizer, video_processor)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Check the class of a part. The library's own check of a video processor requires torchvision.

        Raises:
            TypeError: If the part is of another class.
        """
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, VideoProcessorMixin):
            raise TypeError(f"video_processor must be a TS2NetVideoProcessor, got {type(argument).__name__}")
        return VideoProcessorMixin

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, processor_dict: dict | None = None, **kwargs: Any
    ) -> list[Any]:
        subfolder = kwargs.pop("subfolder", "")
        return [
            cls._load_tokenizer_from_pretrained("tokenizer", pretrained_model_name_or_path, subfolder, **kwargs),
            TS2NetVideoProcessor.from_pretrained(pretrained_model_name_or_path, subfolder=subfolder, **kwargs),
        ]


def _pixel_settings(images: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a CLIP's image processor that also apply to frames."""
    names = ("image_mean", "image_std", "rescale_factor", "resample")
    return {name: images[name] for name in names if images.get(name) is not None}


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    AutoProcessor.register(TS2NetConfig, TS2NetProcessor, exist_ok=True)

__all__ = ["TS2NetProcessor", "TS2NetProcessorKwargs"]
