"""Load any dataset that `datasets` can read and that has a column of videos and a column of captions.

A dataset may be untrusted, so its videos must be part of the dataset itself. Other addresses and other local files
are never opened.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any

from ..benchmarks import CaptionReader, Row
from .folder import read_seconds

if TYPE_CHECKING:
    import datasets

DATASET = "dataset"
"""Name of this kind of data on the command line."""

_IN_ARCHIVE = re.compile(r"(zip|tar|gzip|bz2|xz|zstd|lz4)://.*", re.DOTALL)  # a file in an archive, the next hop


def load_any_dataset(
    path_or_repo: str | Path,
    split: str,
    streaming: bool,
    *,
    config: str | None = None,
    video_column: str = "video",
    caption_column: str = "caption",
    id_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    skip_empty_captions: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> "datasets.IterableDataset | datasets.Dataset":
    """Load a dataset that has a column of videos and a column of captions, and convert it to the standard columns.

    Args:
        path_or_repo: The first argument of `datasets.load_dataset`.
        split: Name of the split.
        streaming: Whether to read the videos on demand. Otherwise they are copied into the cache on disk.
        config: The dataset's configuration, if it has several.
        video_column: Column of videos: `Video`s or bytes.
        caption_column: Column of captions: strings, or lists of strings.
        id_column: Column of ids. A video without an id gets its path in the dataset as id, or a hash of its bytes.
        start_column: Column of the start of the moment, in seconds.
        end_column: Column of the end of the moment, in seconds.
        skip_empty_captions: Leave out empty captions instead of raising an error. A video that has only empty captions
            is counted as broken in training.
        revision: Branch, tag or commit.
        token: Token for a private repository.

    Raises:
        ValueError: If a column is missing or holds values of another type.
    """
    import datasets

    from .columns import standard_features

    source = str(path_or_repo)
    if streaming:
        dataset = _stream(datasets.load_dataset_builder(source, config, revision=revision, token=token), split)
    else:
        dataset = datasets.load_dataset(source, config, split=split, revision=revision, token=token)
    columns = _Columns(video_column, caption_column, id_column, start_column, end_column)
    if streaming and dataset.features:
        dataset = dataset.decode(False)  # not a cast: videos from the Hub are decoded in threads before it
    names = dataset.column_names or list(next(iter(dataset), {}))
    columns.check(names, f"{path_or_repo} ({split})")
    if not streaming and isinstance(dataset.features[video_column], datasets.Video):
        dataset = dataset.cast_column(video_column, datasets.Video(decode=False))
    to_standard = _ToStandard(columns, str(path_or_repo), token, skip_empty_captions)
    options = {} if streaming else {"writer_batch_size": 10, "desc": "naming columns"}
    return dataset.map(to_standard, features=standard_features(), remove_columns=names, **options)


def _stream(builder: "datasets.DatasetBuilder", split: str) -> "datasets.IterableDataset":
    """Stream a split as `load_dataset(..., streaming=True)` does, without its sleep of 5 s after each iteration."""
    import pyarrow

    # `datasets` waits for threads that PyArrow up to version 24 could not stop (apache/arrow#45214). Shuffled Parquet
    # files are read by several threads, so each lane of a run would wait at the end of each pass.
    if int(pyarrow.__version__.partition(".")[0]) > 24:
        builder.SLEEP_ON_THREADS_SHUTDOWNS = False
    return builder.as_streaming_dataset(split=split)


@dataclass(frozen=True)
class _Columns:
    """Names of a dataset's columns, by their role."""

    video: str
    caption: str
    id: str | None
    start: str | None
    end: str | None

    def check(self, names: list[str], location: str) -> None:
        """Check that the dataset has these columns."""
        for role, name in vars(self).items():
            if name is not None and name not in names:
                raise ValueError(
                    f"{location}: no column {name!r}, found {', '.join(names) or 'none'}; name the right one with "
                    f"{role}_column"
                )


@dataclass(frozen=True)
class _ToStandard:
    """Convert a row of a dataset to the standard columns."""

    columns: _Columns
    source: str
    token: str | None
    skip_empty_captions: bool

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        columns = self.columns
        video = self._video(row[columns.video])
        video_id = None if columns.id is None else row[columns.id]
        if video_id is None or video_id == "":  # 0 is an id
            video_id = video["path"] or hashlib.sha256(video["bytes"]).hexdigest()[:32]
        location = f"{self.source}: {video_id}"
        texts = row[columns.caption]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts:
            raise ValueError(
                f"{location}: column {columns.caption!r} holds {short_repr(texts)}, expected a string or a list of "
                "them"
            )
        reader = CaptionReader(self.skip_empty_captions)
        standard = Row(
            video_id=str(video_id),
            captions=tuple(caption for text in texts for caption in reader.read(text, location)),
            start=read_seconds(row[columns.start], f"{location}.{columns.start}") if columns.start else None,
            end=read_seconds(row[columns.end], f"{location}.{columns.end}") if columns.end else None,
        )
        is_local = video["bytes"] is None
        video = {"bytes": video["bytes"], "path": video["path"] if is_local else None}
        return standard.to_columns() | {"video": video}

    def _video(self, value: Any) -> dict[str, Any]:
        """Return the bytes of a video and its path in the dataset, or only the path of a local file."""
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        if not isinstance(value, dict) or not ({"bytes", "path"} & value.keys()):
            raise ValueError(
                f"{self.source}: column {self.columns.video!r} holds {short_repr(value)}, expected videos (the type "
                "Video of datasets) or their bytes; paths and addresses are not opened"
            )
        data, path = value.get("bytes"), value.get("path")
        if data is not None:
            return {"bytes": data, "path": path}
        if not path:
            raise ValueError(f"{self.source}: column {self.columns.video!r} holds a video without bytes and path")
        *inside, home = path.split("::")  # such as zip://a.mp4::hf://datasets/me/clips@main/clips.zip
        if self._is_own_file(home) and all(map(_IN_ARCHIVE.fullmatch, inside)):
            from datasets import DownloadConfig
            from datasets.utils.file_utils import xopen

            with xopen(path, "rb", download_config=DownloadConfig(token=self.token)) as file:
                return {"bytes": file.read(), "path": path.removesuffix(f"::{home}").split("://", 1)[-1]}
        if not inside and _is_inside(path, self.source):
            return {"bytes": None, "path": path}
        raise ValueError(f"{self.source}: {short_repr(path)} lies outside of the dataset, so it isn't opened")

    def _is_own_file(self, address: str) -> bool:
        """Whether an address belongs to a file in the dataset's repository."""
        prefixes = (f"hf://datasets/{self.source}@", f"hf://datasets/{self.source}/")
        # ".." could lead to other repositories.
        return address.startswith(prefixes) and ".." not in address.split("/")


def _is_inside(path: str, source: str) -> bool:
    """Whether a local file belongs to a dataset: it is in the dataset's folder or in the cache of its downloads."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    resolved = Path(path).resolve()
    # Only this repository's folder of the Hub cache, because other repositories in the cache may be private.
    cached = Path(HF_HUB_CACHE, "--".join(["datasets", *source.split("/")]))
    homes = [Path(source), cached, Path(datasets.config.DOWNLOADED_DATASETS_PATH)]
    return any(resolved.is_relative_to(home.resolve()) for home in homes)
