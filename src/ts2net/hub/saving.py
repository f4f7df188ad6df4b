"""Save a model as a self-contained Hub folder, with its code and its card.

- The folder contains the Hub files, so loading it needs transformers but not ts2net.
- All files are written to a staging folder and then moved, and a push is one commit, so readers never see
  a new folder or a branch half-written.
- Weights of an earlier save that are not replaced are removed: transformers would load a stale `model.safetensors`
  instead of new shards.
"""

import filecmp
import inspect
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
)

from .. import __version__
from ..files import write_errors_named, write_whole
from ..modeling_ts2net import TS2NetModel
from ..pipeline_ts2net import register_in_folder
from ..processing_ts2net import TS2NetProcessor
from .adapters import adapter_base, check_pushable, has_adapters
from .card import make_model_card
from .repositories import check_repo_id
from .sentence_transformers_files import write_sentence_transformers_files

HUB_FILES = (
    "configuration_ts2net.py",
    "perturbed_topk_ts2net.py",
    "word_interaction_ts2net.py",
    "modeling_ts2net.py",
    "video_source_ts2net.py",
    "video_timing_ts2net.py",
    "video_sampling_ts2net.py",
    "video_bitstream_ts2net.py",
    "video_cropping_ts2net.py",
    "video_orientation_ts2net.py",
    "video_container_ts2net.py",
    "video_tables_ts2net.py",
    "video_decoding_ts2net.py",
    "video_processing_ts2net.py",
    "text_cleaning_ts2net.py",
    "processing_ts2net.py",
    "pipeline_ts2net.py",
)

_PACKAGE = Path(__file__).parents[1]
# Files of an earlier model or earlier adapters in the folder. Loaders would use a stale configuration.
_WEIGHTS = re.compile(
    r"(adapter_)?model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|(adapter_)?config\.json|modules\.json"
)
_MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_ts2net.TS2NetConfig",
    "AutoModel": "modeling_ts2net.TS2NetModel",
}
_PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_ts2net.TS2NetProcessor"}
_VIDEO_AUTO_MAP = {"AutoVideoProcessor": "video_processing_ts2net.TS2NetVideoProcessor"}


def save_hub_folder(
    model: TS2NetModel,
    processor: TS2NetProcessor,
    folder: str | Path,
    *,
    card: ModelCard | None = None,
    max_shard_size: int | str = "5GB",
) -> Path:
    """Save a model with its processor, code and card in one folder. If it has adapters, save only the adapters.

    `AutoModel`, `AutoProcessor`, `pipeline` and `SentenceTransformer` load the folder with `trust_remote_code=True`,
    with or without ts2net installed. Other files in the folder are kept. The folder changes only after all files are
    written.

    A folder of adapters holds the adapters, the layers that CLIP does not have, and the name of the base model.
    `AutoModel` (with peft installed), `PeftModel` and [`load_model`] load it together with the base model.
    `SentenceTransformer` and `pipeline` need a whole model: see `ts2net merge`.

    Args:
        model: A [`TS2NetModel`].
        processor: The model's [`TS2NetProcessor`].
        folder: The folder; created if it does not exist.
        card: The `README.md`. `None` creates the card with [`make_model_card`].
        max_shard_size: Maximum size of a weight file, such as `"5GB"`. Larger weights are split into several files.

    Returns:
        The folder.

    Raises:
        NotADirectoryError: If `folder` is a file.
        OSError: If the folder can't be written. The error names `folder`.
        TypeError: If the model, the processor or the card is of another class.
        ValueError: If the model and the processor don't match, or their code is not the code that would be saved.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cannot save a model in {folder}: it is a file, and a folder is needed")
    _check_saveable(model, processor, card)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        write_errors_named(folder),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary,
    ):
        staged = Path(temporary) / "model"
        _write_all_but_card(model, processor, staged, max_shard_size)
        (card or _card(model)).save(staged / "README.md")
        if not folder.exists():
            staged.rename(folder)
            return folder
        files = [path.relative_to(staged) for path in staged.rglob("*") if path.is_file()]
        new_names = {str(file) for file in files}
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
            (staged / file).replace(folder / file)
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
    """Push a model with its processor, code and card in one commit. If it has adapters, push only the adapters.

    A failed push leaves the branch unchanged. A repeated push does not upload the same files again.

    Args:
        model: A [`TS2NetModel`].
        processor: The model's [`TS2NetProcessor`].
        repo_id: `"name"` or `"owner/name"`; created if it does not exist.
        card: The `README.md`. `None` creates the card with [`make_model_card`]. To keep the card of the repository,
            pass `ModelCard.load(repo_id)`.
        private: Whether a new repository is private; `None` uses the default of the owner.
        revision: Branch to push to, created from `main` if it does not exist. `None` is `main`.
        commit_message: Title of the commit.
        token: Token with write access. `None` uses the token of `hf auth login` or `HF_TOKEN`.
        max_shard_size: Maximum size of a weight file, such as `"5GB"`. Larger weights are split into several files.

    Returns:
        The commit, with its URL and hash.

    Raises:
        TypeError: If the model, the processor or the card is of another class.
        ValueError: If `repo_id` is not a valid id, the model and the processor don't match, their code is not the
            code that would be pushed, or the base model of adapters is a local folder.
        huggingface_hub.errors.HfHubHTTPError: If the Hub refuses the push.
    """
    check_repo_id(repo_id)
    _check_saveable(model, processor, card)
    if has_adapters(model):
        check_pushable(model)
    api = HfApi(token=token, library_name="ts2net", library_version=__version__)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "model"
        _write_all_but_card(model, processor, staged, max_shard_size)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        (card or _card(model, repo_id)).save(staged / "README.md")

        # `upload_folder` may split a slow upload into several commits, and the first commit would break the branch.
        new_names = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
        files = api.list_repo_files(repo_id, revision=revision)
        stale = [name for name in files if _WEIGHTS.fullmatch(name) and name not in new_names]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=staged / name) for name in new_names]
        return api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)


def _write_all_but_card(
    model: TS2NetModel, processor: TS2NetProcessor, folder: Path, max_shard_size: int | str
) -> None:
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    processor.save_pretrained(folder)
    for name in HUB_FILES:
        (folder / name).write_bytes((_PACKAGE / name).read_bytes())
    _update_json(folder / "processor_config.json", {"auto_map": _PROCESSOR_AUTO_MAP}, {"auto_map": _VIDEO_AUTO_MAP})
    _update_json(folder / "tokenizer_config.json", {"auto_map": _PROCESSOR_AUTO_MAP})
    if has_adapters(model):
        return
    # Overwrite references to the repository that the objects were loaded from, such as its name before `--`.
    _update_json(folder / "config.json", {"auto_map": _MODEL_AUTO_MAP})
    register_in_folder(folder)
    write_sentence_transformers_files(folder)


def _card(model: TS2NetModel, repo_id: str | None = None) -> ModelCard:
    base = adapter_base(model) if has_adapters(model) else None
    return make_model_card(model.config, repo_id, adapters_for=base)


def _update_json(path: Path, fields: dict[str, Any], video_fields: dict[str, Any] | None = None) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | fields
    if video_fields is not None:
        content["video_processor"] |= video_fields
    write_whole(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


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
    """Whether a module and the Hub files in its folder equal this package's. Remote code may have been modified."""
    beside = [source.with_name(name) for name in HUB_FILES if source.with_name(name).exists()]
    return source in beside and all(filecmp.cmp(file, _PACKAGE / file.name, shallow=False) for file in beside)
