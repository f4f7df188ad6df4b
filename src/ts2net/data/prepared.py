"""Sources of prepared splits: a folder, or a dataset repository at one commit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from ..errors import one_line
from ..hub.repositories import check_source
from .manifest import Manifest, manifest_name, split_names


class PreparedData(ABC):
    """Data made by `ts2net prepare`, in a local folder or on the Hub.

    Args:
        name: Folder or repository, for messages.
        files: Names of the files.
    """

    def __init__(self, name: str, files: Sequence[str]) -> None:
        self.name = name
        self.files = frozenset(files)

    @property
    def splits(self) -> list[str]:
        """The prepared splits."""
        return split_names(sorted(self.files))

    def manifest(self, split: str) -> Manifest | None:
        """Read the manifest of a split; `None` if there is none.

        Raises:
            ValueError: If the file of that name is not a manifest.
        """
        name = manifest_name(split)
        if name not in self.files:
            return None
        text = self._local_copy(name).read_text(encoding="utf-8", errors="replace")
        return Manifest.from_json(text, f"{self.name}/{name}")

    def shards(self, manifest: Manifest) -> list[str]:
        """Return the addresses of a split's shards, for `datasets`.

        Raises:
            FileNotFoundError: If a shard is missing.
            ValueError: If the size of a local shard differs from the manifest.
        """
        missing = [shard.file for shard in manifest.shards if shard.file not in self.files]
        if missing:
            raise FileNotFoundError(f"{self.name}: {len(missing)} shards are missing, such as {missing[0]}")
        return [self._address(shard.file) for shard in manifest.shards]

    @abstractmethod
    def _local_copy(self, name: str) -> Path:
        """Return the local path of a small file, which is downloaded if needed."""

    @abstractmethod
    def _address(self, name: str) -> str:
        """Return the address of a file, for `datasets`."""


class PreparedFolder(PreparedData):
    """A local folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), [path.name for path in folder.iterdir()])
        self._folder = folder

    def shards(self, manifest: Manifest) -> list[str]:
        """Same as in the base class, and check the sizes of the files."""
        addresses = super().shards(manifest)
        for shard, address in zip(manifest.shards, addresses, strict=True):
            size = Path(address).stat().st_size
            if size != shard.bytes:
                raise ValueError(f"{address}: {size} bytes, expected {shard.bytes}: it was cut off or changed")
        return addresses

    def _local_copy(self, name: str) -> Path:
        return self._folder / name

    def _address(self, name: str) -> str:
        return str(self._folder.resolve() / name)


class PreparedRepository(PreparedData):
    """A dataset repository on the Hub, at one commit."""

    def __init__(self, repo_id: str, files: Sequence[str], commit: str, token: str | None) -> None:
        super().__init__(repo_id, files)
        self._commit = commit
        self._token = token

    def _local_copy(self, name: str) -> Path:
        path = hf_hub_download(self.name, name, repo_type="dataset", revision=self._commit, token=self._token)
        return Path(path)

    def _address(self, name: str) -> str:
        return f"hf://datasets/{self.name}@{self._commit}/{name}"


def find_prepared(path_or_repo: str | Path, revision: str | None = None, token: str | None = None) -> PreparedData:
    """Find a prepared folder or repository.

    Args:
        path_or_repo: A folder, or a dataset repository on the Hub.
        revision: Branch, tag or commit of the repository.
        token: Token for a private repository.

    Raises:
        ValueError: If a folder is given with a revision.
        FileNotFoundError: If the folder or repository doesn't exist.
        NotADirectoryError: If `path_or_repo` is a file.
        ConnectionError: If there is no such folder, and the Hub can't be reached.
    """
    folder = Path(path_or_repo)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{folder} is a folder, which has no revision {revision!r}")
        return PreparedFolder(folder)
    repo_id = str(path_or_repo)
    check_source(repo_id, "a prepared folder")
    try:
        info = HfApi(token=token, library_name="ts2net").dataset_info(repo_id, revision=revision)
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"{repo_id}: no such folder, and no such dataset repository on the Hub") from error
    except HfHubHTTPError:  # an error response of the Hub, such as for a gated repository
        raise
    except Exception as error:  # no response, for which each HTTP client has its own errors
        raise ConnectionError(
            f"{repo_id}: no such folder, and the Hub can't be asked for such a dataset: {one_line(error)}"
        ) from error
    return PreparedRepository(repo_id, [file.rfilename for file in info.siblings or []], str(info.sha), token)
