"""Evaluation during a training run, and its metrics under the names that Trainer logs."""

from typing import Any

from ..evaluation.retrieval import RetrievalResult, evaluate_retrieval
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments
from .best_metric import DUAL_SOFTMAX


class EvaluationError(ValueError):
    """Raised if the evaluation data, or the model's output for it, can't be evaluated."""


def evaluate_split(
    model: TS2NetModel,
    dataset: Any,
    processor: TS2NetProcessor,
    args: TS2NetTrainingArguments,
    *,
    name: str,
    num_videos: int | None,
) -> RetrievalResult:
    """Evaluate a model according to a run's arguments. All processes must call it.

    Args:
        model: The whole model.
        dataset: The split.
        processor: The model's processor.
        args: The run's arguments.
        name: Name of the evaluation, for messages.
        num_videos: Number of videos of the split, if known, for the progress bar.

    Raises:
        EvaluationError: If the data can't be used.
        MainProcessError: On the other processes, if only the main process fails.
    """
    try:
        return evaluate_retrieval(
            model,
            dataset,
            processor,
            num_frames=args.num_frames,
            max_words=args.max_words,
            batch_size=args.per_device_eval_batch_size,
            num_workers=args.dataloader_num_workers,
            num_videos=num_videos,
            progress=not args.disable_tqdm,
        )
    except (ValueError, OSError) as error:
        raise EvaluationError(f"{name}: {error}") from error


def logged_figures(result: RetrievalResult, prefix: str) -> dict[str, float]:
    """Return all values of an evaluation by their logged names: `eval_text_to_video_R@1`, ...

    Args:
        result: The result of the evaluation.
        prefix: Prefix of each name, followed by `_`.
    """
    dual_softmax = {f"{name}{DUAL_SOFTMAX}": value for name, value in result.dual_softmax.items()}
    figures = {
        name.replace("-", "_").replace(" ", "_"): value for name, value in (result.metrics | dual_softmax).items()
    }
    figures |= {
        "videos": result.num_videos,
        "queries": result.num_texts,
        "broken_videos": result.num_missing,
    }
    return {f"{prefix}_{name}": value for name, value in figures.items()}
