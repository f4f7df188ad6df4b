"""What a run says of itself, and when it stops itself.

Notable here: nothing waits for the device except where figures are logged, and at the two numbers of each step that
have to be finite, the loss and the norm of the gradient.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import logging

from ..configuration_ts2net import TS2NetConfig
from ..perturbed_topk_ts2net import perturbed_topk
from ..videos.broken import BrokenVideo

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


class EvaluationError(ValueError):
    """The evaluation data, or what the model makes of it, can't be evaluated."""


class BrokenVideos:
    """Counts the training videos of a process that can't be used, and says each one's name once.

    Args:
        videos_read: Videos read by this process, the broken ones included; to go on with a run.
        videos_broken: The broken ones among them.
        known: Those that were reported before, by id, with the reason.
    """

    def __init__(self, videos_read: int = 0, videos_broken: int = 0, known: dict[str, str] | None = None) -> None:
        self.videos_read = videos_read
        self.videos_broken = videos_broken
        self.known = dict(known or {})
        self.found: dict[str, str] = {}

    def add(self, num_good: int, broken: Iterable[BrokenVideo]) -> None:
        """Count the videos of a step."""
        self.videos_read += num_good
        for video in broken:
            self.videos_read += 1
            self.videos_broken += 1
            if video.video_id not in self.known and video.video_id not in self.found:
                self.found[video.video_id] = video.reason
                logger.warning(f"video {video.video_id!r} is skipped: {video.reason}")


def too_many_broken(videos_read: int, videos_broken: int, max_share: float) -> bool:
    """Whether more than this share of the videos read, by all processes together, could not be used.

    It is not so before 20 are broken: a share says little of a few.
    """
    return videos_broken >= _LEAST_BROKEN and videos_broken > max_share * videos_read


class Stopwatch:
    """Where the time of the steps goes: how many clips, in how many seconds, and how many of these were spent waiting.

    It starts with the first wait. Evaluating and saving don't count.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._clips = 0
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is spent waiting for data."""
        start = time.perf_counter()
        self._started = self._started or start
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not looked at."""
        start = time.perf_counter()
        yield
        if self._started is not None:
            self._started += time.perf_counter() - start

    def add_clips(self, count: int) -> None:
        """Clips that a step has trained on."""
        self._clips += count

    def read(self) -> tuple[int, float, float]:
        """Clips, seconds, and seconds of waiting since it was last read."""
        now = time.perf_counter()
        reading = (self._clips, now - (self._started or now), self._waited)
        self._started, self._clips, self._waited = now, 0, 0.0
        return reading


class StepFigures:
    """What is kept of the steps, on their device, until figures are logged."""

    def __init__(self) -> None:
        self._accuracies: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._seeds = self._padding_mask = torch.empty(0)
        self._logit_scale = torch.empty(0)

    def start_step(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Take note of what the model is given, before it is."""
        self._scores = []
        self._seeds, self._padding_mask = inputs["selection_seeds"], inputs["padding_mask_videos"]

    def watch(self, outputs: Any) -> None:
        """Take note of what it returns, for the batch or for one chunk after the other."""
        scores = outputs.video_model_output.selection_scores
        if scores is not None:
            self._scores.append(scores.detach())
        self._logit_scale = outputs.logit_scale.detach()

    def add_accuracy(self, accuracy: torch.Tensor) -> None:
        """Take note of how a step's pairs were told apart."""
        self._accuracies.append(accuracy)

    def read(self) -> dict[str, float]:
        """The mean `batch_accuracy` since this was last called, and the `logit_scale` of the last step."""
        accuracy = torch.stack(self._accuracies).mean().item()
        self._accuracies.clear()
        return {"batch_accuracy": accuracy, "logit_scale": math.log(self._logit_scale.item())}

    def selection_entropy(self, config: TS2NetConfig) -> torch.Tensor | None:
        """[`selection_entropy`] of the last step; `None` if the model's selection isn't learned."""
        if not self._scores:
            return None
        return selection_entropy(torch.cat(self._scores), self._seeds, self._padding_mask, config)


def selection_entropy(
    scores: torch.Tensor, seeds: torch.Tensor, padding_mask_videos: torch.Tensor, config: TS2NetConfig
) -> torch.Tensor:
    """How undecided the token selection is: 1 where every patch is as likely, near 0 where the choice is certain.

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
