"""Dataset card of a prepared folder, and its upload to the Hub.

The card declares the shards of each split and their columns, so that `datasets.load_dataset(repo, streaming=True)`
works without this package. A push is one commit, so a reader never gets a manifest that does not match the shards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    DatasetCardData,
    HfApi,
)

from .. import __version__
from ..benchmarks import BENCHMARKS, COLUMN_TYPES
from ..files import write_whole
from ..hub.repositories import check_repo_id
from .manifest import Manifest, manifest_name, split_names

TAGS = ["ts2net", "text-video-retrieval", "video", "webdataset"]


def write_card(folder: str | Path) -> Path:
    """Write the card of a prepared folder, for all its splits.

    Args:
        folder: The folder, with at least one manifest.

    Returns:
        The card's path.

    Raises:
        ValueError: If the manifests belong to several benchmarks.
    """
    folder = Path(folder)
    path = folder / "README.md"
    # Not the folder's own path, because the folder may be moved and its bytes must not depend on its location.
    write_whole(path, str(make_card(read_manifests(folder), "path/to/this/folder")) + "\n")
    return path


def read_manifests(folder: str | Path) -> list[Manifest]:
    """Read the manifests of all splits of a folder, sorted by name."""
    folder = Path(folder)
    paths = [folder / manifest_name(split) for split in split_names([path.name for path in folder.iterdir()])]
    return [Manifest.from_json(path.read_text(encoding="utf-8"), str(path)) for path in paths]


def make_card(manifests: Sequence[Manifest], source: str) -> DatasetCard:
    """Create the card of prepared splits.

    Args:
        manifests: One manifest for each split.
        source: The folder or repository that the card's snippets load.

    Raises:
        ValueError: If the manifests belong to several benchmarks.
    """
    benchmarks = sorted({manifest.benchmark for manifest in manifests})
    if len(benchmarks) > 1:
        raise ValueError(f"{source}: holds {' and '.join(benchmarks)}; each benchmark needs a folder of its own")
    name = benchmarks[0]
    title = BENCHMARKS[name].title if name in BENCHMARKS else "Videos with captions"
    data = DatasetCardData(pretty_name=title, tags=TAGS)
    data["configs"] = [
        {
            "config_name": "default",
            "data_files": [{"split": manifest.split, "path": f"{manifest.split}-*.tar"} for manifest in manifests],
        }
    ]
    data["dataset_info"] = {"config_name": "default", "features": _features()}
    rows = [
        f"| {m.split} | {m.videos:,} | {m.captions:,} | {len(m.shards)} | {len(m.missing)} | {len(m.broken)} | "
        f"{len(m.damaged)} |"
        for m in manifests
    ]
    return DatasetCard(
        _CARD.format(
            yaml=data.to_yaml(),
            title=title,
            name=name,
            rows="\n".join(rows),
            source=source,
            split=manifests[0].split,
        )
    )


def push_prepared(
    folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | None = None
) -> CommitInfo:
    """Push a prepared folder to a dataset repository, in one commit.

    A push that fails leaves the repository unchanged. Repeat the push: files already uploaded are not sent again.

    Args:
        folder: A folder made by `prepare`. Other files in it are not pushed.
        repo_id: `"name"` or `"owner/name"`. Created if it doesn't exist.
        private: Whether a newly created repository is private. `None` uses the owner's default.
        token: Token with write access. `None` uses the token of `hf auth login` or `HF_TOKEN`.

    Returns:
        The commit, with its URL and hash.

    Raises:
        ValueError: If `repo_id` is not a valid id, or the folder wasn't prepared.
        FileNotFoundError: If a shard is missing.
        huggingface_hub.errors.HfHubHTTPError: If the Hub rejects the request.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    manifests = read_manifests(folder)
    if not manifests:
        raise ValueError(f"{folder}: nothing in it was made by `ts2net prepare`")
    card = make_card(manifests, repo_id)
    shards = [shard.file for manifest in manifests for shard in manifest.shards]
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: {len(missing)} shards are missing, such as {missing[0]}; prepare it again")
    api = HfApi(token=token, library_name="ts2net", library_version=__version__)
    repo_id = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
    splits = {manifest.split for manifest in manifests}
    existing = api.list_repo_files(repo_id, repo_type="dataset")
    stale = [
        name for name in existing if name.endswith(".tar") and name not in shards and name.rpartition("-")[0] in splits
    ]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(name) for name in stale]
    names = [*shards, *(manifest_name(manifest.split) for manifest in manifests)]
    operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    operations.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=str(card).encode()))
    return api.create_commit(repo_id, operations, commit_message="Upload prepared shards", repo_type="dataset")


def _features() -> list[dict[str, Any]]:
    """Return the columns of the shards in the format of a dataset card.

    Without them `datasets` would infer the columns from the first clips, which may all lack a moment and a group. It
    would also decode the videos, which needs another library.
    """
    annotation = [
        {"name": name, "list": kind[0]} if isinstance(kind, list) else {"name": name, "dtype": kind}
        for name, kind in COLUMN_TYPES.items()
    ]
    return [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        {"name": "json", "struct": annotation},
        {"name": "mp4", "dtype": {"video": {"decode": False}}},
    ]


_CARD = """---
{yaml}
---

# {title}, prepared for TS2-Net

| split | videos | captions | shards | missing | broken | damaged |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The videos in WebDataset shards: `<key>.mp4` and `<key>.json`, which has the clip's `id`, its `captions`, the moment
`start` to `end` in seconds (null is the video's own start or end), and the `group` of candidates that it is ranked
among (null is all). A clip that is missing or broken is in no shard; `<split>.json` names each with the reason and its
captions, whose queries count as missed in an evaluation. A damaged one is there as far as it could be read.

```python
from datasets import load_dataset

clips = load_dataset("{source}", split="{split}", streaming=True)
```

or, with ts2net,

```python
from ts2net.data import load_benchmark

clips = load_benchmark("{name}", "{source}", "{split}")
```

The rights in videos and captions remain with their owners, and the terms of the original data set apply.
"""
