"""A benchmark as a `datasets` dataset of the standard columns (see `columns`), from a folder or from the Hub.

Notable here: shards are read by `datasets` itself, as WebDataset, so that sharding over processes and workers,
shuffling with a buffer and a seed, and saving and restoring a position are its own. A split of a Hub repository is
read at the one commit that its manifest was found at. A shard's videos are taken as plain bytes: as a `Video`,
`datasets` would put a file of that name in the current folder in their place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from ..benchmarks import BENCHMARKS
from ..errors import one_line
from ..hub.repositories import check_source
from .columns import annotation_features, standard_features
from .shards import Manifest, manifest_name

USER_DATA = ("folder", "dataset")
NAMES = (*BENCHMARKS, "motion_shapes", *USER_DATA)

_RAW_FEATURES = {"__key__": datasets.Value("string"), "__url__": datasets.Value("string")} | {
    "json": annotation_features(),
    "mp4": datasets.Value("binary"),
}
_CLIPS_WRITTEN_AT_ONCE = 10  # to the cache: an Arrow array of videos has to stay under 2 GiB


def load_benchmark(
    name: str,
    path_or_repo: str | Path,
    split: str,
    streaming: bool = True,
    *,
    revision: str | None = None,
    token: str | None = None,
    **user_data: Any,
) -> datasets.IterableDataset | datasets.Dataset:
    """Loads a split with its videos undecoded.

    Args:
        name: a benchmark that `ts2net prepare` knows, which has to be the one that was prepared; `"folder"` for a
            folder of videos with captions, prepared or not; `"dataset"` for any dataset that `datasets` loads.
        path_or_repo: a folder, or a dataset repository on the Hub.
        split: name of the split.
        streaming: whether to read the videos as they are needed. Otherwise `datasets` first copies the shards into its
            cache on disk; either way they never lie in memory all at once.
        revision: branch, tag or commit of the repository.
        token: for a private repository; None takes the one of `hf auth login` or `HF_TOKEN`.
        **user_data: for `"folder"`, `captions`, see `user_data.load_folder`; for `"dataset"`, the names of its
            columns, see `user_data.load_any_dataset`.

    Returns:
        A dataset with the columns of `columns`. What is streamed has one shard for each file.

    Raises:
        ValueError: an unknown name, another benchmark's folder, or a split that isn't there.
        FileNotFoundError: there is no such folder or repository, or a shard of it is missing.
        NotADirectoryError: it is a file.
        ConnectionError: there is no such folder, and the Hub can't be reached.
    """
    if name not in NAMES:
        raise ValueError(f"there is no benchmark {name!r}, only {', '.join(NAMES)}")
    if name == "dataset":
        from .user_data import load_any_dataset

        return load_any_dataset(path_or_repo, split, streaming, revision=revision, token=token, **user_data)
    if name == "folder" and Path(path_or_repo).is_dir() and not (Path(path_or_repo) / manifest_name(split)).exists():
        from .user_data import load_folder

        return load_folder(path_or_repo, split, streaming, **user_data)
    if user_data:
        raise TypeError(f"{path_or_repo} was prepared, so it takes no {', '.join(user_data)}")
    place = _Place.find(path_or_repo, revision, token)
    manifest = place.manifest(split)
    if manifest is None:
        raise ValueError(f"{place} has no split {split!r} made by `ts2net prepare`, {place.splits_found()}")
    if manifest.benchmark != name:
        raise ValueError(f"{place} holds {manifest.benchmark!r}, not {name!r}")
    return _load_shards(place.shards(manifest), split, streaming, token)


def read_manifest(
    path_or_repo: str | Path, split: str, *, revision: str | None = None, token: str | None = None
) -> Manifest | None:
    """Reads the counts of videos and captions of a prepared split, and what is missing in it.

    Returns:
        The manifest; None if `ts2net prepare` made no such split there.

    Raises:
        ValueError: the file of that name is no manifest.
        FileNotFoundError: there is no such folder or repository.
        NotADirectoryError: it is a file.
        ConnectionError: there is no such folder, and the Hub can't be reached.
    """
    return _Place.find(path_or_repo, revision, token).manifest(split)


class _Place:
    """A prepared folder, on this machine or at one commit of a dataset repository on the Hub."""

    def __init__(self, name: str, files: Sequence[str]) -> None:
        self.name = name
        self.files = frozenset(files)

    @staticmethod
    def find(path_or_repo: str | Path, revision: str | None, token: str | None) -> "_Place":
        folder = Path(path_or_repo)
        if folder.is_dir():
            if revision is not None:
                raise ValueError(f"{folder} is a folder, which has no revision {revision!r}")
            return _Folder(folder)
        repo_id = str(path_or_repo)
        check_source(repo_id, "a prepared folder")
        try:
            info = HfApi(token=token, library_name="ts2net").dataset_info(repo_id, revision=revision)
        except RepositoryNotFoundError as error:
            raise FileNotFoundError(f"{repo_id}: no such folder, and no such dataset repository on the Hub") from error
        except HfHubHTTPError:  # the Hub's own answer, such as that a repository is gated
            raise
        except Exception as error:  # the Hub did not answer, which each HTTP client says in its own way
            raise ConnectionError(
                f"{repo_id}: no such folder, and the Hub can't be asked for such a dataset: {one_line(error)}"
            ) from error
        return _Repository(repo_id, [file.rfilename for file in info.siblings or []], str(info.sha), token)

    def __str__(self) -> str:
        return self.name

    def splits_found(self) -> str:
        """What there is, to complete a message."""
        names = [name.removesuffix(".json") for name in sorted(self.files) if name.endswith(".json")]
        found = [name for name in names if any(file.startswith(f"{name}-") for file in self.files)]
        return f"only {', '.join(found)}" if found else "nor any other"

    def manifest(self, split: str) -> Manifest | None:
        """The manifest of a split, if there is one."""
        name = manifest_name(split)
        if name not in self.files:
            return None
        path = self.local_copy(name)
        return Manifest.from_json(path.read_text(encoding="utf-8", errors="replace"), f"{self}/{name}")

    def local_copy(self, name: str) -> Path:
        """A small file."""
        raise NotImplementedError

    def shards(self, manifest: Manifest) -> list[str]:
        """What `datasets` opens."""
        missing = [shard.file for shard in manifest.shards if shard.file not in self.files]
        if missing:
            raise FileNotFoundError(f"{self}: {len(missing)} shards are missing, such as {missing[0]}")
        return [self.address(shard.file) for shard in manifest.shards]

    def address(self, name: str) -> str:
        """A shard, as `datasets` opens it."""
        raise NotImplementedError


class _Folder(_Place):
    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), [path.name for path in folder.iterdir()])
        self._folder = folder

    def local_copy(self, name: str) -> Path:
        return self._folder / name

    def shards(self, manifest: Manifest) -> list[str]:
        addresses = super().shards(manifest)
        for shard, address in zip(manifest.shards, addresses, strict=True):
            size = Path(address).stat().st_size
            if size != shard.bytes:
                raise ValueError(f"{address}: {size} bytes, expected {shard.bytes}: it was cut off or changed")
        return addresses

    def address(self, name: str) -> str:
        return str(self._folder.resolve() / name)


class _Repository(_Place):
    def __init__(self, repo_id: str, files: Sequence[str], commit: str, token: str | None) -> None:
        super().__init__(repo_id, files)
        self._commit = commit
        self._token = token

    def local_copy(self, name: str) -> Path:
        path = hf_hub_download(self.name, name, repo_type="dataset", revision=self._commit, token=self._token)
        return Path(path)

    def address(self, name: str) -> str:
        return f"hf://datasets/{self.name}@{self._commit}/{name}"


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
    # Columns are renamed in place: mapping rows would write the videos a second time.
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
