"""People's own data: a folder of videos with captions, or any dataset that `datasets` loads.

Notable here: captions name files, and either may be a stranger's. A name that leads out of the folder is an error, and
the videos of a dataset have to lie in the dataset itself: an address elsewhere is never opened, nor a file of this
machine.
"""

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any

from ..benchmarks import Row
from ..benchmarks.reading import caption, expect, field, read_csv, read_lines
from ..videos.finding import VIDEO_SUFFIXES
from .shards import MAX_SHARDS_IN_PARALLEL, check_split, default_num_shards

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

WHOLE_FOLDER = "train"  # what `datasets` calls data that has no splits

_IN_ARCHIVE = re.compile(r"(zip|tar|gzip|bz2|xz|zstd|lz4)://.*", re.DOTALL)  # a file in what the next hop names


# ---------------------------------------------------------------------------------------------------------------------
# A folder of videos


@dataclass(frozen=True)
class UserVideo:
    """A row of a folder's captions, and the video's file, which may be missing."""

    row: Row
    file: Path


def load_folder(
    folder: str | Path, split: str, streaming: bool, captions: str | Path | None = None
) -> "datasets.IterableDataset | datasets.Dataset":
    """A folder of videos as a dataset of the standard columns. A row holds the path of its video.

    Args:
        folder: see `read_folder`, as for `split` and `captions`.
        split: name of the split.
        streaming: whether to read the rows as they are needed.
        captions: the captions' file.

    Raises:
        ValueError: see `read_folder`, or no video is there.
    """
    import datasets

    from .columns import standard_features, standard_row

    videos = read_folder(folder, split, captions)
    missing = [video.row.video_id for video in videos if not video.file.is_file()]
    if len(missing) == len(videos):
        raise ValueError(f"{folder}: none of the {len(videos)} videos is there, such as {short_repr(missing[0])}")
    if missing:
        logger.warning("%s: %d of %d videos aren't there: %s", folder, len(missing), len(videos), short_repr(missing))
    rows = [standard_row(video.row, path=str(video.file.absolute())) for video in videos]
    dataset = datasets.Dataset.from_list(rows, features=standard_features())
    if streaming:
        return dataset.to_iterable_dataset(num_shards=min(default_num_shards(len(rows)), MAX_SHARDS_IN_PARALLEL))
    return dataset


def read_folder(folder: str | Path, split: str, captions: str | Path | None = None) -> list[UserVideo]:
    """Reads the captions of a folder of videos.

    They stand in the file `captions`, if it is given; in `<split>.csv` or `<split>.jsonl` in the folder; or in what
    the subfolder `<split>` holds. The split `"train"` may also be the whole folder, with `captions.csv`,
    `captions.jsonl` or, without such a file, a text file beside each video.

    - CSV: a first line that names the columns, among them `file` and `caption`; `start` and `end` (seconds) if wanted.
    - JSON lines: objects with `file`, and `caption` or a list `captions`; `start` and `end` if wanted.
    - Text beside `a.mp4`: `a.txt`, with one caption a line.

    A `file` is a path in the folder. Lines of the same file and moment are captions of one row. Its id is that path;
    for a moment, with its seconds behind it.

    Args:
        folder: with the videos, in subfolders or not.
        split: name of the split.
        captions: the file with its captions, `.csv` or `.jsonl`.

    Raises:
        NotADirectoryError: there is no such folder.
        FileNotFoundError: there is no such captions file.
        ValueError: the split isn't there, a line is not what it should be or names a file outside of the folder.
    """
    folder = Path(folder)
    check_split(split)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder; expected the one with the videos")
    if captions is not None:
        captions = Path(captions)
        if not captions.is_file():
            raise FileNotFoundError(f"{captions}: no such file with captions")
        return _read_captions(folder, captions)
    for name in (f"{split}.csv", f"{split}.jsonl"):
        if (folder / name).is_file():
            return _read_captions(folder, folder / name)
    if (folder / split).is_dir():
        return read_folder(folder / split, WHOLE_FOLDER)
    if split != WHOLE_FOLDER:
        raise ValueError(
            f"{folder}: no split {split!r}; expected {split}.csv, {split}.jsonl or a folder {split} in it. Without "
            f"them the whole folder is the split {WHOLE_FOLDER!r}"
        )
    for name in ("captions.csv", "captions.jsonl"):
        if (folder / name).is_file():
            return _read_captions(folder, folder / name)
    return _read_texts(folder)


def _read_captions(folder: Path, captions: Path) -> list[UserVideo]:
    readers = {".csv": _read_csv, ".jsonl": _read_json_lines}
    if captions.suffix.lower() not in readers:
        raise ValueError(f"{captions}: expected a file that ends with {' or '.join(readers)}")
    root = folder.resolve()
    grouped: dict[tuple[str, float | None, float | None], list[str]] = {}
    for where, file, texts, start, end in readers[captions.suffix.lower()](captions):
        if start is not None and end is not None and end < start:
            raise ValueError(f"{where}: end={end} s lies before start={start} s")
        if end is not None:
            start = start or 0.0  # without one it is the same moment
        grouped.setdefault((_path_inside(root, file, where), start, end), []).extend(texts)
    if not grouped:
        raise ValueError(f"{captions}: no captions in it")
    videos = []
    for (file, start, end), texts in grouped.items():
        video_id = file if start is None else f"{file}@{_plain(start)}-{'' if end is None else _plain(end)}"
        videos.append(UserVideo(Row(video_id, tuple(texts), start, end), folder / file))
    return videos


def _plain(seconds: float) -> str:
    """All digits, for two moments may differ in the last; whole seconds without the point."""
    return repr(seconds).removesuffix(".0")


_Line = tuple[str, str, list[str], float | None, float | None]  # where, file, captions, start, end


def _read_csv(path: Path) -> Iterator[_Line]:
    for where, fields in read_csv(path, ("file", "caption")):
        start, end = (_seconds(fields.get(name) or None, f"{where}: {name}") for name in ("start", "end"))
        yield where, fields["file"], [caption(fields["caption"], where)], start, end


def _read_json_lines(path: Path) -> Iterator[_Line]:
    for where, line in read_lines(path):
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {getattr(error, 'msg', 'nested too deeply')}") from error
        expect(entry, dict, where)
        texts = field(entry, "captions", list, where) if "captions" in entry else [field(entry, "caption", str, where)]
        if not texts:
            raise ValueError(f"{where}.captions: expected at least one")
        start, end = (_seconds(entry.get(name), f"{where}.{name}") for name in ("start", "end"))
        yield where, field(entry, "file", str, where), [caption(text, where) for text in texts], start, end


def _read_texts(folder: Path) -> list[UserVideo]:
    root = folder.resolve()
    videos, without = [], []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            if file.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            text = file.with_suffix(".txt")
            if not text.is_file():
                without.append(str(file))
                continue
            video_id = _path_inside(root, file.relative_to(folder).as_posix(), str(folder))
            _path_inside(root, text.relative_to(folder).as_posix(), str(folder))
            texts = tuple(caption(line, where) for where, line in read_lines(text))
            if not texts:
                raise ValueError(f"{text}: expected a caption a line, found none")
            videos.append(UserVideo(Row(video_id, texts), file))
    if not videos:
        raise ValueError(
            f"{folder}: no captions; expected captions.csv, captions.jsonl, or for each video (found {len(without)}) "
            "a text file of the same name"
        )
    if without:
        logger.warning("%s: %d videos have no text file beside them: %s", folder, len(without), short_repr(without))
    return videos


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{where}: expected seconds, 0 or more, found {short_repr(value)}")
    return seconds


def _path_inside(root: Path, file: str, where: str) -> str:
    """Returns the path of a file in a folder, in its plainest form."""
    path = PurePosixPath(file)
    plain = (
        file.isprintable() and "\\" not in file and path.parts and not path.is_absolute() and ".." not in path.parts
    )
    if not plain or not (root / path).resolve().is_relative_to(root):
        raise ValueError(f"{where}: {short_repr(file)} isn't the path of a file in {root}")
    return str(path)


# ---------------------------------------------------------------------------------------------------------------------
# Any dataset


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
    revision: str | None = None,
    token: str | None = None,
) -> "datasets.IterableDataset | datasets.Dataset":
    """Loads a dataset that has a column of videos and one of captions, with the standard columns.

    Args:
        path_or_repo: whatever `datasets.load_dataset` takes.
        split: name of the split.
        streaming: whether to read the videos as they are needed. Otherwise they are copied into the cache on disk.
        config: the dataset's configuration, if it has several.
        video_column: `Video`s or bytes.
        caption_column: strings, or lists of strings.
        id_column: what tells videos apart. Without it this is their path in the dataset, or a hash of their bytes.
        start_column: seconds.
        end_column: seconds.
        revision: branch, tag or commit.
        token: for a private repository.

    Raises:
        ValueError: a column isn't there, or holds something else.
    """
    import datasets

    from .columns import standard_features

    dataset = datasets.load_dataset(
        str(path_or_repo), config, split=split, streaming=streaming, revision=revision, token=token
    )
    columns = _Columns(video_column, caption_column, id_column, start_column, end_column)
    if streaming and dataset.features:
        dataset = dataset.decode(False)  # casting wouldn't do: what comes from the Hub is decoded before, in threads
    names = dataset.column_names or list(next(iter(dataset), {}))
    columns.check(names, f"{path_or_repo} ({split})")
    if not streaming and isinstance(dataset.features[video_column], datasets.Video):
        dataset = dataset.cast_column(video_column, datasets.Video(decode=False))
    to_standard = _ToStandard(columns, str(path_or_repo), token)
    options = {} if streaming else {"writer_batch_size": 10, "desc": "naming columns"}
    return dataset.map(to_standard, features=standard_features(), remove_columns=names, **options)


@dataclass(frozen=True)
class _Columns:
    """What the columns of a dataset are called."""

    video: str
    caption: str
    id: str | None
    start: str | None
    end: str | None

    def check(self, names: list[str], where: str) -> None:
        """Sees that they are there."""
        for role, name in vars(self).items():
            if name is not None and name not in names:
                raise ValueError(
                    f"{where}: no column {name!r}, found {', '.join(names) or 'none'}; name the right one with "
                    f"{role}_column"
                )


@dataclass(frozen=True)
class _ToStandard:
    """Makes a row of the standard columns out of a dataset's own."""

    columns: _Columns
    source: str
    token: str | None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        columns = self.columns
        video = self._video(row[columns.video])
        video_id = None if columns.id is None else row[columns.id]
        if video_id is None or video_id == "":  # 0 is an id
            video_id = video["path"] or hashlib.sha256(video["bytes"]).hexdigest()[:32]
        where = f"{self.source}: {video_id}"
        texts = row[columns.caption]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts:
            raise ValueError(
                f"{where}: column {columns.caption!r} holds {short_repr(texts)}, expected a string or a list of them"
            )
        is_local = video["bytes"] is None
        return {
            "id": str(video_id),
            "captions": [caption(text, where) for text in texts],
            "start": _seconds(row[columns.start], f"{where}.{columns.start}") if columns.start else None,
            "end": _seconds(row[columns.end], f"{where}.{columns.end}") if columns.end else None,
            "group": None,
            "video": {"bytes": video["bytes"], "path": video["path"] if is_local else None},
        }

    def _video(self, value: Any) -> dict[str, Any]:
        """The bytes of a video, with the path that it has in the dataset; only that for a local file."""
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
        """Whether an address is that of a file in the dataset's repository."""
        own = (f"hf://datasets/{self.source}@", f"hf://datasets/{self.source}/")
        return address.startswith(own) and ".." not in address.split("/")  # which would lead to other repositories


def _is_inside(path: str, source: str) -> bool:
    """Whether a local file belongs to a dataset: in its folder, or where what was downloaded of it is kept."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    resolved = Path(path).resolve()
    # Of the Hub's cache only the folder of this repository, for others in it may be private.
    cached = Path(HF_HUB_CACHE, "--".join(["datasets", *source.split("/")]))
    homes = [Path(source), cached, Path(datasets.config.DOWNLOADED_DATASETS_PATH)]
    return any(resolved.is_relative_to(home.resolve()) for home in homes)
