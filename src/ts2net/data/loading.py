"""Load a benchmark as a dataset with the standard columns (see `columns`), from a folder or from the Hub.

`datasets` reads the shards as WebDataset, so that sharding over processes and workers, shuffling with a buffer and a
seed, and saving and restoring a position come from the library.
"""

from pathlib import Path
from typing import Any

import datasets

from ..benchmarks import BENCHMARKS, Row
from .any_dataset import DATASET, load_any_dataset
from .columns import annotation_features, rows_without_videos, standard_features
from .folder import FOLDER, load_folder
from .manifest import Manifest, manifest_name
from .prepared import find_prepared

NAMES = (*BENCHMARKS, FOLDER, DATASET)
"""The names that [`load_benchmark`] accepts."""

# Videos are read as plain bytes, because for a `Video` `datasets` prefers a file of that name in the current folder.
_RAW_FEATURES = {"__key__": datasets.Value("string"), "__url__": datasets.Value("string")} | {
    "json": annotation_features(),
    "mp4": datasets.Value("binary"),
}
_CLIPS_WRITTEN_AT_ONCE = 10  # to the cache, because an Arrow array of videos must be smaller than 2 GiB


def load_benchmark(
    name: str,
    path_or_repo: str | Path,
    split: str,
    streaming: bool = True,
    *,
    with_missing: bool = False,
    revision: str | None = None,
    token: str | None = None,
    **user_data: Any,
) -> datasets.IterableDataset | datasets.Dataset:
    """Load a split, without decoding its videos.

    Args:
        name: Name of the benchmark that was prepared; `"folder"` for a folder of videos with captions, prepared or
            not; `"dataset"` for any dataset that `datasets` loads.
        path_or_repo: A folder, or a dataset repository on the Hub.
        split: Name of the split.
        streaming: Whether to read the videos on demand. Otherwise `datasets` first copies the shards into its cache on
            disk. Memory never holds all videos in either case.
        with_missing: Also return the clips that are in no shard because their videos were missing or broken when the
            split was prepared, as last rows, without a video. An evaluation needs them, because their queries count as
            missed. For a folder that was not prepared they are always included.
        revision: Branch, tag or commit of the repository.
        token: Token for a private repository. `None` uses the token of `hf auth login` or `HF_TOKEN`.
        **user_data: Options of [`load_folder`] for `"folder"`, or of [`load_any_dataset`] for `"dataset"`.

    Returns:
        A dataset with the columns of `columns`. A streamed dataset has one shard per file.

    Raises:
        ValueError: If the name is unknown, the folder holds another benchmark, or the split doesn't exist.
        TypeError: If `user_data` is given for prepared data.
        FileNotFoundError: If the folder or repository doesn't exist, or a shard is missing.
        NotADirectoryError: If `path_or_repo` is a file.
        ConnectionError: If there is no such folder, and the Hub can't be reached.
    """
    if name not in NAMES:
        raise ValueError(f"there is no benchmark {name!r}, only {', '.join(NAMES)}")
    if name == DATASET:
        return load_any_dataset(path_or_repo, split, streaming, revision=revision, token=token, **user_data)
    if name == FOLDER and Path(path_or_repo).is_dir() and not (Path(path_or_repo) / manifest_name(split)).exists():
        return load_folder(path_or_repo, split, streaming, **user_data)
    if user_data:
        raise TypeError(f"{path_or_repo} was prepared, so it takes no {', '.join(user_data)}")
    prepared = find_prepared(path_or_repo, revision, token)
    manifest = prepared.manifest(split)
    if manifest is None:
        others = f"only {', '.join(prepared.splits)}" if prepared.splits else "nor any other"
        raise ValueError(f"{prepared.name} has no split {split!r} made by `ts2net prepare`, {others}")
    if manifest.benchmark != name:
        raise ValueError(f"{prepared.name} holds {manifest.benchmark!r}, not {name!r}")
    dataset = _load_shards(prepared.shards(manifest), split, streaming, token)
    left_out = [
        Row(remark.video_id, remark.captions, group=remark.group) for remark in manifest.left_out if remark.captions
    ]
    if with_missing and left_out:
        missing = rows_without_videos(left_out)
        dataset = datasets.concatenate_datasets([dataset, missing.to_iterable_dataset() if streaming else missing])
    return dataset


def read_manifest(
    path_or_repo: str | Path, split: str, *, revision: str | None = None, token: str | None = None
) -> Manifest | None:
    """Read the manifest of a prepared split: counts of videos and captions, and the clips left out of the shards.

    Returns:
        The manifest; `None` if the folder or repository has no such split made by `ts2net prepare`.

    Raises:
        ValueError: If the file of that name is not a manifest.
        FileNotFoundError: If the folder or repository doesn't exist.
        NotADirectoryError: If `path_or_repo` is a file.
        ConnectionError: If there is no such folder, and the Hub can't be reached.
    """
    return find_prepared(path_or_repo, revision, token).manifest(split)


def _load_shards(
    addresses: list[str], split: str, streaming: bool, token: str | None
) -> datasets.IterableDataset | datasets.Dataset:
    dataset = datasets.load_dataset(
        "webdataset",
        data_files={split: addresses},
        split=split,
        streaming=streaming,
        features=datasets.Features(_RAW_FEATURES),
        token=token,
        writer_batch_size=_CLIPS_WRITTEN_AT_ONCE,
    )
    if streaming:
        return dataset.map(_standard_row, features=standard_features(), remove_columns=list(_RAW_FEATURES))
    # Rename columns instead of mapping rows, which would write the videos a second time.
    dataset = dataset.flatten().rename_columns({f"json.{name}": name for name in annotation_features()})
    dataset = dataset.rename_column("mp4", "video").select_columns(list(standard_features()))
    return dataset.cast_column("video", standard_features()["video"])


def _standard_row(member: dict[str, Any]) -> dict[str, Any]:
    annotation, video = member["json"], member["mp4"]
    if annotation is None or not annotation["id"] or not annotation["captions"] or video is None:
        raise ValueError(
            f"{member['__url__']}: {member['__key__']!r} isn't a video with an id and captions, as `ts2net prepare` "
            "writes it"
        )
    return annotation | {"video": {"bytes": video, "path": None}}
