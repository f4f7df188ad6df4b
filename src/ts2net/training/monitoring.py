"""What a run counts and logs, and the errors that stop it.

Nothing waits for the device except where figures are logged, and for the two numbers of each step that must be finite:
the loss and the norm of the gradient.
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
    """The loss or the gradient of a step is NaN or infinite. The weights are still those of the step before."""

    def __init__(self, what: str, value: float, step: int, video_ids: Sequence[str]) -> None:
        super().__init__(
            f"the {what} is {value} at step {step}, and the weights were left as they were. "
            f"The step's videos: {', '.join(video_ids)}. "
            f"Try a lower learning_rate or a longer warm-up (warmup_steps); bf16 or float32 if this is fp16; a look "
            f"at these videos and their captions; and --debug underflow_overflow, which names the first module that "
            f"leaves the range. --resume_from_checkpoint true goes on from the last checkpoint"
        )


class TooManyBrokenVideosError(RuntimeError):
    """A larger share of the training videos than is allowed could not be used."""


class BrokenVideos:
    """Counts the training videos of a process that can't be used, and names each once.

    Args:
        videos_read: Videos that this process has read before, broken ones included.
        videos_broken: The broken ones among them.
        reported: Those that were reported before, by id, with the reason.
    """

    def __init__(
        self, videos_read: int = 0, videos_broken: int = 0, reported: Mapping[str, str] | None = None
    ) -> None:
        self.videos_read = videos_read
        self.videos_broken = videos_broken
        self.reported = dict(reported or {})
        self.new: dict[str, str] = {}
        """Those that this process has reported itself, by id, with the reason."""

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
        """The counts of all processes, the same on each. All processes must call it."""
        parts = gather_object([(self.videos_read, self.videos_broken, self.new)])
        return BrokenVideos(
            videos_read=sum(read for read, _, _ in parts),
            videos_broken=sum(broken for _, broken, _ in parts),
            reported=self.reported | {video_id: reason for *_, new in parts for video_id, reason in new.items()},
        )

    def check(self, max_share: float, failure: DataLoadingError | None, accelerator: Accelerator) -> None:
        """Stop all processes at once where one can't go on; alone it would leave the others waiting.

        Args:
            max_share: Largest share of broken videos.
            failure: Why this process can't read its data.
            accelerator: The run's.

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
    """Whether more than this share of the videos that all processes have read is broken.

    Returns False until 20 videos are broken: a share of a few says little.
    """
    return videos_broken >= _LEAST_BROKEN and videos_broken > max_share * videos_read


class Stopwatch:
    """Measures the time of the steps: clips, seconds, and the seconds among them spent waiting for data.

    It starts with the first wait. Evaluations and saving are left out.
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
        """Leave out the time of the block."""
        start = time.perf_counter()
        yield
        if self._started is not None:
            self._started += time.perf_counter() - start

    def add_clips(self, count: int) -> None:
        """Count the clips of a step."""
        self._clips += count

    def read(self) -> tuple[int, float, float]:
        """Clips, seconds, and seconds of waiting since the last call."""
        now = time.perf_counter()
        reading = (self._clips, now - (self._started or now), self._waited)
        self._started, self._clips, self._waited = now, 0, 0.0
        return reading


def write_tensorboard_to(folder: str, callbacks: Iterable[TrainerCallback]) -> None:
    """Have TensorBoard's callback write into a folder of the user's choice."""
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = folder


def training_figures(
    stopwatch: Stopwatch, steps: "StepFigures", config: TS2NetConfig, accelerator: Accelerator
) -> dict[str, float]:
    """The figures that are logged beside Trainer's, over all processes, which must all call it.

    `batch_accuracy` is the share of texts that are nearest to their own video in the batch; `selection_loss` is the
    loss on the selected tokens, not weighted, while it has a weight; `logit_scale` is the logarithm of the factor on
    cosines; `clips_per_second` leaves out evaluations and saving; `data_wait_share` is the share of that time spent
    waiting for a batch; `selection_entropy` is explained at [`selection_entropy`].
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
    """Keeps figures of the steps on their device until they are logged."""

    def __init__(self) -> None:
        self._accuracies: list[torch.Tensor] = []
        self._selection_losses: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._seeds = self._padding_mask = torch.empty(0)
        self._logit_scale = torch.empty(0)

    def start_step(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Remember what a step's selection depends on."""
        self._scores = []
        self._seeds, self._padding_mask = inputs["selection_seeds"], inputs["padding_mask_videos"]

    def watch(self, outputs: Any) -> None:
        """Remember the model's output for the batch, or for one chunk of it after the other."""
        scores = outputs.video_model_output.selection_scores
        if scores is not None:
            self._scores.append(scores.detach())
        self._logit_scale = outputs.logit_scale.detach()

    def add(self, result: ContrastiveLoss) -> None:
        """Remember the accuracy and the selection loss of a step."""
        self._accuracies.append(result.text_to_video_accuracy)
        if result.selection_loss is not None:
            self._selection_losses.append(result.selection_loss)

    def read(self) -> dict[str, float]:
        """Means of `batch_accuracy` and `selection_loss` since the last call, and the last `logit_scale`."""
        means = {"batch_accuracy": self._accuracies, "selection_loss": self._selection_losses}
        figures = {name: torch.stack(values).mean().item() for name, values in means.items() if values}
        self._accuracies.clear()
        self._selection_losses.clear()
        scale = self._logit_scale.item()
        return figures | {"logit_scale": math.log(scale) if scale else -math.inf}  # far too high a rate makes it 0

    def selection_entropy(self, config: TS2NetConfig) -> torch.Tensor | None:
        """[`selection_entropy`] of the last step; `None` if the model's selection isn't learned."""
        if not self._scores:
            return None
        return selection_entropy(torch.cat(self._scores), self._seeds, self._padding_mask, config)


def selection_entropy(
    scores: torch.Tensor, seeds: torch.Tensor, padding_mask_videos: torch.Tensor, config: TS2NetConfig
) -> torch.Tensor:
    """How undecided the token selection is: 1 if all patches are equally likely, near 0 if the choice is certain.

    The perturbed maximum chooses `K` patches in each of its draws. The entropy is that of the share of all choices
    that fell on each patch of a frame, divided by the logarithm of the number of patches. A choice that never changes
    has `ln K / ln N`.

    Args:
        scores: Scores of the scorer, `(B, T, N + 1)`, [CLS] first.
        seeds: `(B,)`; the draws are those of the step itself.
        padding_mask_videos: True for real frames, `(B, T)`.
        config: The model's.

    Returns:
        The entropy of each real frame, a vector.
    """
    rows = scores.detach()[:, :, 1:].flatten(0, 1)  # (B * T, N)
    indicators = perturbed_topk(
        rows, config.num_selected_tokens, config.selection_sigma, config.selection_num_samples, seeds=seeds
    )  # (B * T, K, N)
    shares = indicators.mean(dim=1)  # (B * T, N), each row sums to 1
    entropy = -torch.xlogy(shares, shares).sum(dim=-1) / math.log(max(2, rows.shape[-1]))  # (B * T,)
    return entropy[padding_mask_videos.to(entropy.device, torch.bool).flatten()]
