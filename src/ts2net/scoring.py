"""Score texts against videos in three lines of Python."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .encoding.runtimes import Precision, RuntimeName, load_on_runtime
from .hub.loading import processor_of_loaded
from .modeling_ts2net import TS2NetModel
from .pipeline_ts2net import TextVideoScoringPipeline, VideoScores
from .processing_ts2net import TS2NetProcessor


class TextVideoScorer:
    """A model that is ready to score texts against videos.

    ```python
    from ts2net import TextVideoScorer

    scorer = TextVideoScorer("me/my-ts2net")
    for video in scorer.score(["dog.mp4", "bread.mp4"], ["a dog catches a frisbee", "a man slices bread"]):
        print(video.video, video.scores, video.seconds)
    ```

    It runs [`TextVideoScoringPipeline`] with the installed classes, never with code that is stored beside the weights.

    Args:
        model: A folder, a repository on the Hub, or a loaded model, which stays on its device.
        processor: The processor of a loaded model.
        revision: Branch, tag or commit of the repository. `None` is `main`.
        dtype: Type of the weights. `"auto"` is the checkpoint's type.
        device: The device, such as `"cpu"` or `"cuda:1"`. `None` is a GPU if there is one, otherwise the CPU.
        runtime: `"torch"`, or `"onnx"`, which is faster on a CPU. The first time, it exports the model.
        precision: `"int8"` is faster still on ONNX Runtime, with slightly different scores.

    Raises:
        ts2net.hub.ModelLoadingError: If the model cannot be loaded.
        ValueError: If the device does not exist, or a loaded model is given without its processor or with loading
            options.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | TS2NetModel,
        processor: TS2NetProcessor | None = None,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        runtime: RuntimeName = "torch",
        precision: Precision | None = None,
    ) -> None:
        if isinstance(model, TS2NetModel):
            processor = processor_of_loaded(processor)
            if (revision, dtype, device, runtime, precision) != (None, "auto", None, "torch", None):
                raise ValueError(
                    "revision, dtype, device, runtime and precision say how to load a model, but this one is loaded"
                )
        elif processor is not None:
            raise ValueError(
                f"the processor of {os.fspath(model)} is loaded with it: give processor with a loaded model"
            )
        else:
            model, processor = load_on_runtime(
                model, runtime=runtime, precision=precision, revision=revision, dtype=dtype, device=device
            )
        self.model = model
        self.processor = processor
        self._pipeline = TextVideoScoringPipeline(model=model, processor=processor, device=model.device)

    def score(
        self, videos: Any, texts: str | Sequence[str], *, on_error: str = "raise", **settings: Any
    ) -> list[VideoScores]:
        """Score every text against every video.

        Args:
            videos: A video, or a list or stream of videos, of any kind that the processor accepts.
            texts: A text or a list of texts.
            on_error: `"raise"`, or `"skip"` to store the error of a video that cannot be read or scored in its result.
            settings: Settings of the video processor (`num_frames`, `start`, `end`, ...), and `batch_size` and
                `num_workers` of the pipeline.

        Returns:
            The results, in the order of the videos.

        Raises:
            ValueError: If there is no text, or a video cannot be read or scored.
            OSError: If a video cannot be opened.
            TypeError: If a setting is unknown or a video is of an unknown kind.
        """
        return list(self.stream(videos, texts, on_error=on_error, **settings))

    def stream(
        self, videos: Any, texts: str | Sequence[str], *, on_error: str = "raise", **settings: Any
    ) -> Iterator[VideoScores]:
        """Score videos one by one, as [`TextVideoScorer.score`] does, without keeping results."""
        return self._pipeline.stream(videos, texts, on_error=on_error, **settings)
