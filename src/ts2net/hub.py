"""A model out: a folder that stands alone on the Hub, with its code and its card.

Notable here: the folder holds the Hub files themselves, so whoever loads it needs transformers and no ts2net. It is
made whole in a staging folder and only then moved, and a push is one commit, so neither a folder nor a branch is ever
seen half-written. Weights of an earlier save that the new ones do not replace are removed: transformers would load a
stale `model.safetensors` before new shards.
"""

import filecmp
import html
import inspect
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
)
from huggingface_hub.utils import validate_repo_id

from . import __version__
from .configuration_ts2net import TS2NetConfig
from .modeling_ts2net import TS2NetModel
from .pipeline_ts2net import CUSTOM_PIPELINES
from .processing_ts2net import TS2NetProcessor

HUB_FILES = (
    "configuration_ts2net.py",
    "modeling_ts2net.py",
    "video_source_ts2net.py",
    "video_sampling_ts2net.py",
    "video_bitstream_ts2net.py",
    "video_decoding_ts2net.py",
    "video_processing_ts2net.py",
    "processing_ts2net.py",
    "pipeline_ts2net.py",
)
TAGS = ("ts2net", "text-video-retrieval", "video-retrieval", "video", "clip", "custom_code")

_HERE = Path(__file__).parent
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_ts2net.TS2NetConfig",
    "AutoModel": "modeling_ts2net.TS2NetModel",
}
_PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_ts2net.TS2NetProcessor"}
_VIDEO_AUTO_MAP = {"AutoVideoProcessor": "video_processing_ts2net.TS2NetVideoProcessor"}


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on one split of one dataset.

    Args:
        dataset_name: For people, such as `"MSR-VTT 1k-A"`.
        dataset_type: For programs: the dataset's Hub id, or a short name such as `"msrvtt"`.
        dataset_split: Such as `"test"`.
        metrics: Values by name, such as `{"text-to-video R@1": 47.0}`.
        dataset_config: The dataset's configuration, if it has several.
        dataset_revision: The commit of the dataset.

    Raises:
        ValueError: If there is no metric, or one of them is not a finite number.
    """

    dataset_name: str
    dataset_type: str
    dataset_split: str
    metrics: Mapping[str, float]
    dataset_config: str | None = None
    dataset_revision: str | None = None

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError(f"the evaluation on {self.dataset_name!r} has no metrics")
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"metric {name!r} of {self.dataset_name!r} must be a finite number, got {value!r}")

    def to_eval_results(self) -> list[EvalResult]:
        """The metrics as huggingface_hub keeps them in a card's `model-index`, one result a metric."""
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
                metric_value=value,
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
) -> ModelCard:
    """Fill `model_card.md` for one model.

    Args:
        config: The model's configuration, which the card describes.
        repo_id: Where the model will be; the card's snippets load it from there. Without it they load a folder.
        base_model: Hub id of the model that this one was started from.
        license: Licence of the weights, as the Hub writes it (`"mit"`). Left out if not given.
        datasets: Hub ids of the data that it was trained on.
        language: Language of its texts, as an ISO 639-1 code.
        evaluations: What it reached, for the table and the `model-index`.
        training: Details worth knowing, by name: `{"batch size": 128, ...}`.

    Returns:
        The card. Change it as you like; [`save_hub_folder`] and [`push_to_hub`] take it.

    Raises:
        ValueError: If `repo_id`, `base_model` or one of `datasets` cannot be a Hub id.
    """
    if isinstance(datasets, str):
        raise ValueError(f"datasets must be a list of Hub ids, got the string {datasets!r}")
    for name, hub_id in [("repo_id", repo_id), ("base_model", base_model), *(("datasets", id_) for id_ in datasets)]:
        if hub_id is not None:
            _check_hub_id(name, hub_id)
    eval_results = [result for evaluation in evaluations for result in evaluation.to_eval_results()]
    model_name = repo_id.split("/")[-1] if repo_id else "TS2-Net"
    data = ModelCardData(
        language=language,
        license=license,
        library_name="transformers",
        tags=list(TAGS),
        base_model=base_model,
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
        source=json.dumps(repo_id or "path/to/this/folder"),
        evaluation=_evaluation_table(eval_results),
        training="\n".join(details) or "No details of its training were given.",
    )


def add_evaluation(card: ModelCard, evaluation: Evaluation) -> ModelCard:
    """Write results into a card that is already there, in its `model-index` and in its table.

    A metric that the card already has for the same dataset, configuration, split and revision gets the new value;
    everything else stays. The table is left alone in a card without the markers of `model_card.md`.

    ```python
    card = add_evaluation(ModelCard.load("me/my-ts2net"), Evaluation("MSR-VTT 1k-A", "msrvtt", "test", metrics))
    card.push_to_hub("me/my-ts2net")
    ```

    Args:
        card: The card, from a folder or from the Hub. It is changed.
        evaluation: The results.

    Returns:
        The same card.
    """
    new = evaluation.to_eval_results()
    replaced = {(result.unique_identifier, result.metric_type) for result in new}
    kept = [r for r in card.data.get("eval_results", []) if (r.unique_identifier, r.metric_type) not in replaced]
    card.data["eval_results"] = kept + new
    card.data["model_name"] = card.data.get("model_name", "TS2-Net")
    card.text = re.sub(
        r"(<!-- evaluation:.*?-->\n).*?(\n<!-- end of evaluation -->)",
        lambda match: match[1] + _evaluation_table(kept + new) + match[2],
        card.text,
        flags=re.DOTALL,
    )
    return card


def save_hub_folder(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    folder: str | Path,
    *,
    card: ModelCard | None = None,
    max_shard_size: int | str = "5GB",
) -> Path:
    """Save everything that is needed to use a model, its code included, in one folder.

    `AutoModel`, `AutoProcessor` and `pipeline` load the folder with `trust_remote_code=True`, with or without ts2net
    installed. Other files in the folder stay; if anything fails, so does what was there.

    Args:
        model: A [`TS2NetModel`].
        processor: Its [`TS2NetProcessor`].
        folder: Where to. Made if it is not there.
        card: Its `README.md`; see [`make_model_card`], which makes the one that is used without it.
        max_shard_size: Weights larger than this are split into files of at most this size, such as `"5GB"`.

    Returns:
        The folder.

    Raises:
        NotADirectoryError: If `folder` is a file.
        TypeError: If the model or the processor is of another kind.
        ValueError: If the two don't belong together, or their code is not the code that would be saved.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cannot save a model in {folder}: it is a file, and a folder is needed")
    _check_saveable(model, processor, card)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        staged = Path(temporary) / "model"
        _write_all_but_card(model, processor, staged, max_shard_size)
        (card or make_model_card(model.config)).save(staged / "README.md")
        if not folder.exists():
            staged.rename(folder)
            return folder
        new_names = {path.name for path in staged.iterdir()}
        for path in staged.iterdir():
            path.replace(folder / path.name)
        for path in folder.iterdir():
            if _WEIGHTS.fullmatch(path.name) and path.name not in new_names:
                path.unlink()
    return folder


def push_to_hub(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    repo_id: str,
    *,
    card: ModelCard | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload TS2-Net model, processor, code and card",
    token: str | None = None,
    max_shard_size: int | str = "5GB",
) -> CommitInfo:
    """Push everything that is needed to use a model, its code and its card included, in one commit.

    A push that fails leaves the branch as it was. Repeat it: what was uploaded is not uploaded again.

    Args:
        model: A [`TS2NetModel`].
        processor: Its [`TS2NetProcessor`].
        repo_id: `"name"` or `"owner/name"`. Made if it is not there.
        card: Its `README.md`; see [`make_model_card`], which makes the one that is used without it. To keep the card
            of the repository, give `ModelCard.load(repo_id)`.
        private: Whether a repository that is made is private; `None` leaves it to the owner's settings.
        revision: Branch to push to, made from `main` if it is not there. `None` is `main`.
        commit_message: Title of the commit.
        token: Token with the right to write. `None` takes the one of `hf auth login` or `HF_TOKEN`.
        max_shard_size: Weights larger than this are split into files of at most this size, such as `"5GB"`.

    Returns:
        The commit, with its address and hash.

    Raises:
        TypeError: If the model or the processor is of another kind.
        ValueError: If `repo_id` cannot be one, the model and the processor don't belong together, or their code is not
            the code that would be pushed.
        huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.
    """
    _check_hub_id("repo_id", repo_id)
    _check_saveable(model, processor, card)
    api = HfApi(token=token, library_name="ts2net", library_version=__version__)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "model"
        _write_all_but_card(model, processor, staged, max_shard_size)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        (card or make_model_card(model.config, repo_id)).save(staged / "README.md")

        # Not `upload_folder`, which may split a slow upload into several commits: the first would break the branch.
        new_names = sorted(path.name for path in staged.iterdir())
        there = api.list_repo_files(repo_id, revision=revision)
        stale = [name for name in there if _WEIGHTS.fullmatch(name) and name not in new_names]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=staged / name) for name in new_names]
        return api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)


def _write_all_but_card(
    model: TS2NetModel, processor: TS2NetProcessor, folder: Path, max_shard_size: int | str
) -> None:
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    processor.save_pretrained(folder)
    for name in HUB_FILES:
        (folder / name).write_bytes((_HERE / name).read_bytes())
    # Written here once more, and not left to the objects: what they carry from where they were loaded, such as another
    # repository's name before `--`, must not reach the folder.
    _update_json(folder / "config.json", {"auto_map": _MODEL_AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES})
    _update_json(folder / "processor_config.json", {"auto_map": _PROCESSOR_AUTO_MAP}, {"auto_map": _VIDEO_AUTO_MAP})
    _update_json(folder / "tokenizer_config.json", {"auto_map": _PROCESSOR_AUTO_MAP})


def _update_json(path: Path, fields: dict[str, Any], video_fields: dict[str, Any] | None = None) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | fields
    if video_fields is not None:
        content["video_processor"] |= video_fields
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_saveable(model: TS2NetModel, processor: TS2NetProcessor, card: ModelCard | None) -> None:
    if card is not None and not isinstance(card, ModelCard):
        raise TypeError(f"card must be a huggingface_hub.ModelCard, got a {type(card).__name__}")
    for name, thing, class_name in [("model", model, "TS2NetModel"), ("processor", processor, "TS2NetProcessor")]:
        if type(thing).__name__ != class_name:
            raise TypeError(f"{name} must be a {class_name}, got a {type(thing).__name__}")
        source = Path(inspect.getfile(type(thing)))
        if not _is_shipped_code(source):
            raise ValueError(
                f"the {name}'s code ({source}) is not that of ts2net {__version__}, which would be saved with it: "
                f"load it with ts2net.{class_name}.from_pretrained, or save it with its own save_pretrained"
            )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError("model has adapters, whose weights alone would be saved: merge or delete them first")
    config, video_processor = model.config, processor.video_processor
    image_size, crop_size = config.vision_config.image_size, video_processor.crop_size
    if video_processor.do_center_crop and (crop_size["height"], crop_size["width"]) != (image_size, image_size):
        raise ValueError(
            f"the model reads frames of {image_size}x{image_size} pixels, but the processor crops to "
            f"{crop_size['height']}x{crop_size['width']}"
        )
    for reads, gives, what in [
        (config.num_frames, video_processor.num_frames, "frames"),
        (config.text_config.vocab_size, len(processor.tokenizer), "tokens in the vocabulary"),
    ]:
        if gives > reads:
            raise ValueError(f"the model has room for {reads} {what}, but the processor gives up to {gives}")


def _is_shipped_code(source: Path) -> bool:
    """Whether a module and the Hub files beside it are ours: a repository's remote code may have been changed."""
    beside = [source.with_name(name) for name in HUB_FILES if source.with_name(name).exists()]
    return source in beside and all(filecmp.cmp(file, _HERE / file.name, shallow=False) for file in beside)


def _check_hub_id(name: str, hub_id: str) -> None:
    try:
        validate_repo_id(hub_id)
    except ValueError as error:
        raise ValueError(
            f"{name}={hub_id!r} is not the id of a repository on the Hub ('owner/name'): {error}"
        ) from None


def _template_path() -> Path:
    """The card's template: beside this file in an installed package, at the root of the repository in a checkout."""
    installed = _HERE / "model_card.md"
    return installed if installed.exists() else _HERE.parents[1] / "model_card.md"


def _evaluation_table(eval_results: Sequence[EvalResult]) -> str:
    if not eval_results:
        return "It has not been evaluated yet."
    rows = ["| Dataset | Split | Metric | Value |", "| --- | --- | --- | --- |"]
    for result in eval_results:
        cells = [result.dataset_name, result.dataset_split, result.metric_name, result.metric_value]
        rows.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _plain(value: object) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    one_line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(one_line, quote=False))
