"""Model cards: fill in `model_card.md` for one model, and add evaluation results to a card."""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_ts2net import TS2NetConfig
from .repositories import as_repo_id, check_repo_id

TAGS = ("ts2net", "text-video-retrieval", "video-retrieval", "video", "clip", "custom_code")

_CONDITIONS = {
    "num_frames": "Frames",
    "max_words": "Words",
    "num_videos": "Videos",
    "num_queries": "Queries",
    "num_missing": "Missing",
    "num_left_out": "Left out",
}
"""Fields of an evaluation that a card shows next to each metric, with their column headings."""

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on one split of a dataset.

    Args:
        dataset_name: Display name, such as `"MSR-VTT 1k-A"`.
        dataset_type: The dataset's Hub id, or a short name such as `"msrvtt"`.
        dataset_split: Name of the split, such as `"test"`.
        metrics: Values by name, such as `{"text-to-video R@1": 47.0}`. Cards show two decimals.
        dataset_config: The dataset's configuration, if it has several.
        dataset_revision: The commit of the dataset.
        num_frames: Maximum number of frames of a video.
        max_words: Maximum number of tokens of a text.
        num_videos: Number of candidate videos, including missing videos.
        num_queries: Number of texts.
        num_missing: Number of videos that were missing or could not be read. Their queries count as missed.
        num_left_out: Number of videos of the split that were left out with their queries.

    Raises:
        ValueError: If `metrics` is empty or a value is not a finite number.
    """

    dataset_name: str
    dataset_type: str
    dataset_split: str
    metrics: Mapping[str, float]
    dataset_config: str | None = None
    dataset_revision: str | None = None
    num_frames: int | None = None
    max_words: int | None = None
    num_videos: int | None = None
    num_queries: int | None = None
    num_missing: int | None = None
    num_left_out: int | None = None

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError(f"the evaluation on {self.dataset_name!r} has no metrics")
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"metric {name!r} of {self.dataset_name!r} must be a finite number, got {value!r}")

    def to_eval_results(self) -> list[EvalResult]:
        """Return one result per metric, rounded to two decimals, for the `model-index` of a card."""
        values = {name: getattr(self, name) for name in _CONDITIONS} | {"num_left_out": self.num_left_out or None}
        conditions = {name: value for name, value in values.items() if value is not None}
        return [
            EvalResult(
                task_type="text-video-retrieval",
                task_name="Text-Video Retrieval",
                dataset_type=self.dataset_type,
                dataset_name=self.dataset_name,
                dataset_config=self.dataset_config,
                dataset_split=self.dataset_split,
                dataset_revision=self.dataset_revision,
                metric_type=re.sub(r"[^a-z0-9@]+", "_", name.lower()).strip("_"),
                metric_name=name,
                metric_value=round(value, 2),
                metric_args=dict(conditions) or None,
            )
            for name, value in self.metrics.items()
        ]


def make_model_card(
    config: TS2NetConfig,
    repo_id: str | None = None,
    *,
    base_model: str | None = None,
    license: str | None = None,
    datasets: Sequence[str] = (),
    language: str | None = None,
    evaluations: Sequence[Evaluation] = (),
    training: Mapping[str, Any] | None = None,
    adapters_for: str | None = None,
) -> ModelCard:
    """Fill in `model_card.md` for one model.

    Args:
        config: The model's configuration.
        repo_id: Repository from which the snippets of the card load the model. With `None` they load a folder.
        base_model: Hub id of the model that this model was initialised from.
        license: Licence of the weights, by its Hub identifier (`"mit"`). `None` omits the licence.
        datasets: Hub ids of the training data.
        language: Language of the training texts, as an ISO 639-1 code.
        evaluations: Results for the table and the `model-index`.
        training: Details of the training, by name: `{"batch size": 128, ...}`.
        adapters_for: For a repository with adapters only: the folder or repository of their base model. It replaces
            `base_model` if it is a Hub id.

    Returns:
        The card, for [`save_hub_folder`] and [`push_to_hub`].

    Raises:
        ValueError: If `repo_id`, `base_model` or one of `datasets` is not a valid Hub id.
    """
    if isinstance(datasets, str):
        raise ValueError(f"datasets must be a list of Hub ids, got the string {datasets!r}")
    for name, hub_id in [("repo_id", repo_id), ("base_model", base_model), *(("datasets", id_) for id_ in datasets)]:
        if hub_id is not None:
            check_repo_id(hub_id, name)
    if adapters_for is not None:
        base_model = as_repo_id(adapters_for) or base_model
    eval_results = [result for evaluation in evaluations for result in evaluation.to_eval_results()]
    model_name = repo_id.split("/")[-1] if repo_id else "TS2-Net"
    data = ModelCardData(
        language=language,
        license=license,
        library_name="transformers" if adapters_for is None else "peft",
        tags=[*TAGS, *([] if adapters_for is None else ["lora"])],
        base_model=base_model,
        base_model_relation=None if adapters_for is None or base_model is None else "adapter",
        datasets=list(datasets) or None,
        model_name=model_name,
        eval_results=eval_results or None,
    )
    if not eval_results:
        data.pop("model_name")  # the Hub reads it from the model-index only
    details = [f"- {_plain(name)}: {_plain(value)}" for name, value in (training or {}).items()]
    return ModelCard.from_template(
        data,
        template_str=_template_path().read_text(encoding="utf-8"),
        config=config,
        title=model_name,
        adapters_for=adapters_for,
        source=json.dumps(repo_id or "path/to/this/folder"),
        evaluation=_evaluation_table(eval_results),
        training="\n".join(details) or "No details of its training were given.",
    )


def add_evaluation(card: ModelCard, evaluation: Evaluation) -> ModelCard:
    """Add evaluation results to the `model-index` and the table of an existing card.

    A new result replaces the result with the same metric, dataset, configuration, split, revision, frames and words.
    Everything else is kept. If the card does not have the markers of `model_card.md`, the table is not changed.

    ```python
    card = add_evaluation(ModelCard.load("me/my-ts2net"), Evaluation("MSR-VTT 1k-A", "msrvtt", "test", metrics))
    card.push_to_hub("me/my-ts2net")
    ```

    Args:
        card: The card, from a folder or from the Hub; changed in place.
        evaluation: The new results.

    Returns:
        The same card.
    """
    new = evaluation.to_eval_results()
    kept = [old for old in card.data.get("eval_results", []) if not any(_is_replaced(old, result) for result in new)]
    card.data["eval_results"] = kept + new
    card.data["model_name"] = card.data.get("model_name", "TS2-Net")
    card.text = re.sub(
        r"(<!-- evaluation:.*?-->\n).*?(\n<!-- end of evaluation -->)",
        lambda match: match[1] + _evaluation_table(kept + new) + match[2],
        card.text,
        flags=re.DOTALL,
    )
    return card


def _template_path() -> Path:
    """Return the path of the template: in an installed package, or at the root of the repository in a checkout."""
    installed = _PACKAGE / "model_card.md"
    return installed if installed.exists() else _PACKAGE.parents[1] / "model_card.md"


def _evaluation_table(eval_results: Sequence[EvalResult]) -> str:
    if not eval_results:
        return "It has not been evaluated yet."
    stated = [name for name in _CONDITIONS if any(name in (result.metric_args or {}) for result in eval_results)]
    heading = ["Dataset", "Split", "Metric", "Value", *(_CONDITIONS[name] for name in stated)]
    rows = ["| " + " | ".join(heading) + " |", "| " + " | ".join("---" for _ in heading) + " |"]
    for result in eval_results:
        cells = [result.dataset_name, result.dataset_split, result.metric_name, result.metric_value]
        cells += [(result.metric_args or {}).get(name, "") for name in stated]
        rows.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _is_replaced(old: EvalResult, new: EvalResult) -> bool:
    """Whether `new` replaces `old`: same metric, data, frames and words. `old` may lack frames and words."""
    if (old.unique_identifier, old.metric_type) != (new.unique_identifier, new.metric_type):
        return False
    lengths = [[(result.metric_args or {}).get(name) for name in ("num_frames", "max_words")] for result in (old, new)]
    return lengths[0] == lengths[1] or lengths[0] == [None, None]


def _plain(value: object) -> str:
    """Escape a value for Markdown and HTML, as text on one line."""
    one_line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(one_line, quote=False))
