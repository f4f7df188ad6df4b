"""Counters and logged metrics of a training run, and the errors that stop it.

The host waits for the device only when metrics are logged, and once per step for the two numbers that must be finite:
the loss and the gradient norm.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging

from ..configuration_ts2net import TS2NetConfig
from ..data.lanes import DataLoadingError
from ..perturbed_topk_ts2net import perturbed_topk
from ..videos.broken import BrokenVideo
from .contrastive import ContrastiveLoss

logger = logging.get_logger(__name__)

_LEAST_BROKEN = 20


class NonFiniteError(RuntimeError):
    """The loss or the gradient of a step is NaN or infinite. The weights are those of the previous step."""

    def __init__(self, what: str, value: float, step: int, video_ids: Sequence[str]) -> None:
        super().__init__(
            f"the {what} is {value} at step {step}, and the weights were left as they were. "
            f"The step's videos: {', '.join(video_ids)}. "
            f"Try a lower learning_rate or a longer warm-up (warmup_steps); bf16 or float32 if this is fp16; a look "
            f"at these videos and their captions; and --debug underflow_overflow, which names the first module that "
            f"leaves the range. --resume_from_checkpoint true goes on from the last checkpoint"
        )


class TooManyBrokenVideosError(RuntimeError):
    """The share of training videos that can't be used is larger than allowed."""


class BrokenVideos:
    """Counter of the training videos that a process can't use. Each of them is reported once.

    Args:
        videos_read: Number of videos that this process has read before, including broken videos.
        videos_broken: Number of broken videos among `videos_read`.
        reported: Reasons of the broken videos that were reported before, by id.
    """

    def __init__(
        self, videos_read: int = 0, videos_broken: int = 0, reported: Mapping[str, str] | None = None
    ) -> None:
        self.videos_read = videos_read
        self.videos_broken = videos_broken
        self.reported = dict(reported or {})
        self.new: dict[str, str] = {}
        """Reasons of the broken videos that this process has reported itself, by id."""

    def add(self, num_good: int, broken: Iterable[BrokenVideo]) -> None:
        """Count the videos of a step."""
        self.videos_read += num_good
        for video in broken:
            self.videos_read += 1
            self.videos_broken += 1
            if video.video_id not in self.reported and video.video_id not in self.new:
                self.new[video.video_id] = video.reason
                logger.warning(f"video {video.video_id!r} is skipped: {video.reason}")

    def total(self) -> "BrokenVideos":
        """Return the total counts of all processes, on each process. All processes must call it."""
        parts = gather_object([(self.videos_read, self.videos_broken, self.new)])
        return BrokenVideos(
            videos_read=sum(read for read, _, _ in parts),
            videos_broken=sum(broken for _, broken, _ in parts),
            reported=self.reported | {video_id: reason for *_, new in parts for video_id, reason in new.items()},
        )

    def check(self, max_share: float, failure: DataLoadingError | None, accelerator: Accelerator) -> None:
        """Stop all processes together if one can't continue. If only one stopped, the others would wait for it.

        Args:
            max_share: Maximum share of broken videos.
            failure: The error of this process in reading its data, if any.
            accelerator: The accelerator of the run.

        Raises:
            DataLoadingError: If a process can't read its data.
            TooManyBrokenVideosError: If too many videos of all processes are broken.
        """
        counts = [self.videos_read, self.videos_broken, int(failure is not None)]
        totals = accelerator.reduce(torch.tensor(counts, device=accelerator.device), "sum")
        videos_read, videos_broken, num_failures = totals.tolist()
        if num_failures:
            reasons = gather_object([str(failure or "")])
            raise DataLoadingError(next(filter(None, reasons))) from failure
        if too_many_broken(videos_read, videos_broken, max_share):
            examples = [f"{video_id!r} ({reason})" for video_id, reason in list(self.total().reported.items())[:3]]
            raise TooManyBrokenVideosError(
                f"{videos_broken} of {videos_read} training videos could not be used, more than "
                f"max_broken_share={max_share} allows; for instance {', '.join(examples)}"
            )


def too_many_broken(videos_read: int, videos_broken: int, max_share: float) -> bool:
    """Whether the share of broken videos of all processes is larger than `max_share`.

    Returns False until 20 videos are broken, because the share is not meaningful for a few videos.
    """
    return videos_broken >= _LEAST_BROKEN and videos_broken > max_share * videos_read


class Stopwatch:
    """Measures the speed of the steps: clips, seconds, and the seconds spent waiting for data.

    It starts at the first wait for data. Evaluations and saving are excluded.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._clips = 0
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for data."""
        start = time.perf_counter()
        self._started = self._started or start
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block."""
        start = time.perf_counter()
        yield
        if self._started is not None:
            self._started += time.perf_counter() - start

    def add_clips(self, count: int) -> None:
        """Count the clips of a step."""
        self._clips += count

    def read(self) -> tuple[int, float, float]:
        """Return clips, seconds, and seconds of waiting since the last call."""
        now = time.perf_counter()
        reading = (self._clips, now - (self._started or now), self._waited)
        self._started, self._clips, self._waited = now, 0, 0.0
        return reading


def write_tensorboard_to(folder: str, callbacks: Iterable[TrainerCallback]) -> None:
    """Set the folder of TensorBoard's callback."""
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = folder


def training_figures(
    stopwatch: Stopwatch, steps: "StepFigures", config: TS2NetConfig, accelerator: Accelerator
) -> dict[str, float]:
    """Return the metrics that are logged in addition to Trainer's, over all processes. All processes must call it.

    `batch_accuracy` is the share of texts that are nearest to their own video in the batch; `selection_loss` is the
    unweighted loss on the selected tokens, while its weight is not 0; `logit_scale` is the logarithm of the factor of
    the cosines; `clips_per_second` excludes evaluations and saving; `data_wait_share` is the share of that time spent
    waiting for a batch; for `selection_entropy` see [`selection_entropy`].
    """
    clips, seconds, waited = stopwatch.read()
    entropy = steps.selection_entropy(config)
    entropies = [] if entropy is None else [entropy.sum().item(), len(entropy)]
    sums = torch.tensor([clips, waited / seconds, *entropies], device=accelerator.device)
    clips, wait_shares, *entropies = accelerator.reduce(sums, "sum").tolist()
    figures = steps.read()
    if entropies:
        figures["selection_entropy"] = entropies[0] / entropies[1]
    return figures | {
        "clips_per_second": clips / seconds,
        "data_wait_share": wait_shares / accelerator.num_processes,
    }


class StepFigures:
    """Metrics of the steps, kept on their device until they are logged."""

    def __init__(self) -> None:
        self._accuracies: list[torch.Tensor] = []
        self._selection_losses: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._seeds = self._padding_mask = torch.empty(0)
        self._logit_scale = torch.empty(0)

    def start_step(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Store the inputs on which the selection of a step depends."""
        self._scores = []
        self._seeds, self._padding_mask = inputs["selection_seeds"], inputs["padding_mask_videos"]

    def watch(self, outputs: Any) -> None:
        """Store the selection scores and the logit scale of the model's output for the batch or a chunk of it."""
        scores = outputs.video_model_output.selection_scores
        if scores is not None:
            self._scores.append(scores.detach())
        self._logit_scale = outputs.logit_scale.detach()

    def add(self, result: ContrastiveLoss) -> None:
        """Store the accuracy and the selection loss of a step."""
        self._accuracies.append(result.text_to_video_accuracy)
        if result.selection_loss is not None:
            self._selection_losses.append(result.selection_loss)

    def read(self) -> dict[str, float]:
        """Return the mean `batch_accuracy` and `selection_loss` since the last call, and the last `logit_scale`."""
        means = {"batch_accuracy": self._accuracies, "selection_loss": self._selection_losses}
        figures = {name: torch.stack(values).mean().item() for name, values in means.items() if values}
        self._accuracies.clear()
        self._selection_losses.clear()
        scale = self._logit_scale.item()
        return figures | {"logit_scale": math.log(scale) if scale else -math.inf}  # 0 if the rate is far too high

    def selection_entropy(self, config: TS2NetConfig) -> torch.Tensor | None:
        """Compute [`selection_entropy`] of the last step; `None` if the model's selection isn't learned."""
        if not self._scores:
            return None
        return selection_entropy(torch.cat(self._scores), self._seeds, self._padding_mask, config)


def selection_entropy(
    scores: torch.Tensor, seeds: torch.Tensor, padding_mask_videos: torch.Tensor, config: TS2NetConfig
) -> torch.Tensor:
    """Compute the normalised entropy of the token selection.

    The perturbed maximum selects `K` of the `N` patches in each of its draws. The entropy of the patches' shares of
    all selections in a frame is divided by `ln N`. The result is 1 if all patches are equally likely, and
    `ln K / ln N` if the selection is the same in every draw.

    Args:
        scores: Scores of the scorer, `(B, T, N + 1)`, [CLS] first.
        seeds: Seeds of the step, `(B,)`, so that the draws are the same as in the step.
        padding_mask_videos: True for real frames, `(B, T)`.
        config: Configuration of the model.

    Returns:
        The entropy of each real frame, as a vector.
    """
    rows = scores.detach()[:, :, 1:].flatten(0, 1)  # (B * T, N)
    indicators = perturbed_topk(
        rows, config.num_selected_tokens, config.selection_sigma, config.selection_num_samples, seeds=seeds
    )  # (B * T, K, N)
    shares = indicators.mean(dim=1)  # (B * T, N), each row sums to 1
    entropy = -torch.xlogy(shares, shares).sum(dim=-1) / math.log(max(2, rows.shape[-1]))  # (B * T,)
    return entropy[padding_mask_videos.to(entropy.device, torch.bool).flatten()]
