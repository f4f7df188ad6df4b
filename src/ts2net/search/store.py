"""The index on disk: one LanceDB table with a row for each window, in a folder or on object storage.

Notable here:
- What the index is made with stands in the schema of the table, so that there is no second file to disagree with it.
- A video's rows come and go in one commit of the one table, so whoever reads, and whenever the writer was killed,
  finds whole videos. A row more in the table of broken videos is a second commit; each order of the two that can be
  seen is one from which the same command goes on.
- Readers are never kept waiting. A second writer is refused, by a lock where the index is a folder; on object storage
  there is no lock to take, and that only one process writes is for those who start them to see to.
- Old versions stay for ten minutes, so that a search that began before a commit ends well.
"""

import contextlib
import hashlib
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from huggingface_hub.utils import WeakFileLock

from ..errors import one_line
from ..videos.broken import BrokenVideo
from .records import IndexedVideo
from .windows import WindowSettings

try:
    import lancedb
    import pyarrow as pa
except ImportError as error:
    raise ImportError("the search index needs the library lancedb: pip install 'ts2net[search]'") from error

FORMAT = 2  # to be raised when the tables change

_WINDOWS, _BROKEN = "windows", "broken"
# An exact search reads all frames, and this version of the files gives lists about twice as fast as newer ones.
_STORAGE = {"new_table_data_storage_version": "2.0"}
_ABOUT_KEY = b"ts2net"
_MANY_SMALL_FILES = 16
_VIDEOS_RELABELLED_AT_ONCE = 64
_KEEP_OLD_VERSIONS = timedelta(minutes=10)
_LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class About:
    """What an index is made with. All of it but `model` and `revision`, which only say where it was, decides scores.

    Args:
        model: The model's folder or repository.
        revision: Commit of the repository; `None` for a folder.
        fingerprint: Of the model and its processor, see `fingerprint.fingerprint`.
        dtype: Type of the weights, such as `"float32"`.
        dim: Width `D` of an embedding.
        windows: How videos are cut.
        matching_kind: As the model's configuration has it, for the next two as well.
        temperature: Of the matching.
        padding_mode: `"masked"` or `"released"`.
        logit_scale: What a similarity is multiplied by: the exponential of the model's own parameter.
        format: Version of the tables.
    """

    model: str
    revision: str | None
    fingerprint: str
    dtype: str
    dim: int
    windows: WindowSettings
    matching_kind: str
    temperature: float
    padding_mode: str
    logit_scale: float
    format: int = FORMAT

    def to_json(self) -> str:
        """The text that stands in the schema."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "About":
        """Read what stands in the schema.

        Raises:
            AboutError: If it is of another format, or not of this package.
        """
        not_ours = f"{where}: not an index that `ts2net index` wrote"
        try:
            fields = json.loads(text)
            found = fields["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AboutError(not_ours) from None
        if found != FORMAT:
            newer = isinstance(found, int) and found > FORMAT
            advice = "update ts2net" if newer else "index the videos again, into another folder"
            raise AboutError(f"{where}: an index of format {found!r}, and this ts2net reads format {FORMAT}: {advice}")
        try:
            return cls(**fields | {"windows": WindowSettings(**fields["windows"])})
        except (ValueError, KeyError, TypeError) as error:
            raise AboutError(not_ours) from error


class AboutError(ValueError):
    """There is an index, but of another format, or of somebody else."""


class StoreError(OSError):
    """The index can't be written, for want of space for one. What it holds is whole."""


def video_key(name: str) -> str:
    """A video's name as 16 hexadecimal digits: what stands in conditions, where a name might be taken for SQL."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def name_to_text(name: str) -> str:
    """A file's name as text that any table takes.

    A byte of it that is no UTF-8, which Python holds as half a character, becomes NUL and two hexadecimal digits.
    There is no NUL in a file's name, so this can be undone.
    """
    return re.sub("[\ud800-\udfff]", lambda half: f"\0{ord(half[0]) & 0xFF:02x}", name)


def name_from_text(text: str) -> str:
    """What `name_to_text` was given."""
    return re.sub("\0([0-9a-f]{2})", lambda byte: chr(0xDC00 | int(byte[1], 16)), text)


class Store:
    """An index, open.

    Use [`Store.open`] or [`Store.create`]. `table` holds the windows, with the columns of `windows_schema`.
    """

    def __init__(self, path: str, database: Any, table: Any, about: About) -> None:
        self.path = path
        self.about = about
        self.table = table
        self._database = database

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Store":
        """Open an index.

        Args:
            path: A folder, or an address that LanceDB takes, such as `s3://bucket/index`.

        Raises:
            FileNotFoundError: If there is none.
            AboutError: If it is of another format.
            OSError: If it can't be read.
        """
        path = os.fspath(path)
        found = _open(path)
        if found is None:
            raise FileNotFoundError(f"{path}: there is no index; `ts2net index VIDEOS --out {path}` makes one")
        return found

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether there is an index, of whatever format.

        Raises:
            OSError: If it can't be known, since what holds it can't be read.
        """
        try:
            return _open(os.fspath(path)) is not None
        except AboutError:
            return True

    @staticmethod
    def create(path: str | os.PathLike[str], about: About) -> "Store":
        """Make an empty index. To be called as the only writer.

        Raises:
            FileExistsError: If there is one already.
            StoreError: If it can't be written.
        """
        path = os.fspath(path)
        if Store.exists(path):
            raise FileExistsError(f"{path}: there is an index already")
        with _writing(path):
            database = _connect(path)
            schema = windows_schema(about)
            table = database.create_table(_WINDOWS, schema=schema, storage_options=_STORAGE)
        return Store(path, database, table, about)

    def snapshot(self) -> Any:
        """The table of windows as the latest commit left it, which no later commit changes under who reads it."""
        with _reading(self.path):
            return self._database.open_table(_WINDOWS)

    def __len__(self) -> int:
        """How many windows there are."""
        return int(self.table.count_rows())

    def signatures(self) -> dict[str, str]:
        """The signature of each video that is indexed, by key."""
        rows = self.first_windows("key", "signature")
        return dict(zip(rows["key"].to_pylist(), rows["signature"].to_pylist(), strict=True))

    def videos(self) -> list[str]:
        """The names of all videos that are indexed."""
        return sorted(name_from_text(text) for text in self.first_windows("video")["video"].to_pylist())

    def first_windows(self, *columns: str) -> pa.Table:
        """Some columns of the first window of each video: those that say something of the whole video."""
        return self.table.search().where("number = 0").select(list(columns)).limit(None).to_arrow()

    def broken(self) -> list[BrokenVideo]:
        """The videos that can't be used, by name."""
        table = self._broken_table()
        if table is None:
            return []
        rows = table.to_arrow().to_pylist()
        videos = [BrokenVideo(name_from_text(row["video"]), row["reason"], row["signature"]) for row in rows]
        return sorted(videos, key=lambda video: video.video_id)

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Be the only one who writes; see [`only_writer`]."""
        with only_writer(self.path):
            self.table.checkout_latest()
            yield

    def add(self, videos: Sequence[IndexedVideo]) -> None:
        """Add videos, or replace those that are there, in one commit.

        Raises:
            StoreError: If it can't be written.
            ValueError: If a video is among them twice, or has no window.
        """
        if not videos:
            return
        keys = [video_key(video.video_id) for video in videos]
        if len(set(keys)) < len(keys):
            raise ValueError("a video is among those to add twice")
        hollow = next((video.video_id for video in videos if not video.windows), None)
        if hollow is not None:
            raise ValueError(f"{hollow}: a video to add has no window")
        rows = _rows(videos, keys, self.table.schema)
        with _writing(self.path):
            self._forget_broken(keys)
            there = self.table.count_rows(f"number = 0 AND {_among(keys)}")
            if not there:
                self.table.add(rows)
                return
            merge = self.table.merge_insert("window").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(_among(keys)).execute(rows)

    def drop(self, keys: Iterable[str]) -> None:
        """Remove videos, whether indexed or broken, in one commit.

        Raises:
            StoreError: If it can't be written.
        """
        keys = list(keys)
        if not keys:
            return
        with _writing(self.path):
            self._forget_broken(keys)
            self.table.delete(_among(keys))

    def relabel(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Change what else is known of videos that are indexed, and nothing else.

        Args:
            metadata: By key.

        Raises:
            StoreError: If it can't be written.
        """
        keys = list(metadata)
        for first in range(0, len(keys), _VIDEOS_RELABELLED_AT_ONCE):
            some = keys[first : first + _VIDEOS_RELABELLED_AT_ONCE]
            with _writing(self.path):
                rows = self.table.search().where(_among(some)).limit(None).to_arrow()
                texts = [json.dumps(dict(metadata[key])) for key in rows["key"].to_pylist()]
                place = rows.schema.get_field_index("metadata")
                rows = rows.set_column(place, rows.schema.field(place), pa.array(texts, pa.string()))
                self.table.merge_insert("window").when_matched_update_all().execute(rows)

    def mark_broken(self, videos: Sequence[BrokenVideo]) -> None:
        """Note videos that can't be used, and remove what was indexed of them before.

        Raises:
            StoreError: If it can't be written.
        """
        if not videos:
            return
        self.drop(video_key(video.video_id) for video in videos)
        rows = pa.Table.from_pylist(
            [
                {
                    "video": name_to_text(video.video_id),
                    "key": video_key(video.video_id),
                    "signature": video.signature,
                    "reason": video.reason.encode(errors="backslashreplace").decode(),
                }
                for video in videos
            ],
            schema=_BROKEN_SCHEMA,
        )
        with _writing(self.path):
            table = self._broken_table()
            if table is None:
                self._database.create_table(_BROKEN, schema=_BROKEN_SCHEMA).add(rows)
            else:
                table.add(rows)

    def index_column(self, column: str, config: Any) -> None:
        """Make LanceDB's index over a column, in place of the one that is there.

        Raises:
            StoreError: If it can't be written.
        """
        with _writing(self.path):
            self.table.create_index(column, config=config, replace=True)

    def compact(self) -> None:
        """Join many small files into a few large ones, and give back the space of what nobody reads any more.

        Raises:
            StoreError: If it can't be written.
        """
        with _writing(self.path):
            if self.table.stats()["fragment_stats"]["num_small_fragments"] < _MANY_SMALL_FILES:
                return
            # On object storage a file that no version knows may be another process's, about to be committed.
            alone = _folder(self.path) is not None
            self.table.optimize(cleanup_older_than=_KEEP_OLD_VERSIONS, delete_unverified=alone)

    def _broken_table(self) -> Any:
        return _open_table(self._database, _BROKEN)

    def _forget_broken(self, keys: Sequence[str]) -> None:
        table = self._broken_table()
        if table is not None and table.count_rows(_among(keys)):
            table.delete(_among(keys))


@contextlib.contextmanager
def only_writer(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other writers out of an index, which need not exist yet.

    Raises:
        BlockingIOError: If another process is writing.
        StoreError: If the folder can't be made.
    """
    folder = _folder(os.fspath(path))
    if folder is None:  # object storage
        yield
        return
    with _writing(os.fspath(path)):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(folder / ".lock", timeout=1))
        except TimeoutError:
            raise BlockingIOError(f"{folder}: another process is writing to this index") from None
        yield


def windows_schema(about: About) -> pa.Schema:
    """The columns of the table of windows, and what the index is made with."""
    return pa.schema(
        [
            pa.field("window", pa.string(), nullable=False),  # <key>-<number>
            pa.field("video", pa.string(), nullable=False),  # see name_to_text
            pa.field("key", pa.string(), nullable=False),  # see video_key
            pa.field("number", pa.int32(), nullable=False),  # of the window in its video, from 0
            pa.field("signature", pa.string(), nullable=False),
            pa.field("duration", pa.float64(), nullable=False),  # seconds, of the video
            pa.field("start", pa.float64(), nullable=False),  # seconds
            pa.field("end", pa.float64(), nullable=False),
            pa.field("frame_times", pa.list_(pa.float32()), nullable=False),  # seconds
            pa.field("frames", pa.list_(pa.list_(pa.float16(), about.dim)), nullable=False),  # of length 1
            pa.field("mean", pa.list_(pa.float16(), about.dim), nullable=False),  # of the frames, for vector_index
            pa.field("thumbnail", pa.binary(), nullable=False),  # JPEG
            pa.field("metadata", pa.string(), nullable=False),  # a JSON object of strings
        ],
        metadata={_ABOUT_KEY: about.to_json()},
    )


_BROKEN_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("video", "key", "signature", "reason")])


def _rows(videos: Sequence[IndexedVideo], keys: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The windows of videos as rows."""
    pairs = [
        (key, video, number) for key, video in zip(keys, videos, strict=True) for number in range(len(video.windows))
    ]
    windows = [window for video in videos for window in video.windows]
    lengths = [len(window.frames) for window in windows]
    frames = np.concatenate([np.asarray(window.frames, dtype=np.float16) for window in windows])  # (all frames, D)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(frames.ravel()), frames.shape[1])
    means = np.stack(
        [np.asarray(window.frames, dtype=np.float16).mean(axis=0, dtype=np.float32) for window in windows]
    )
    columns = {
        "window": [f"{key}-{number:06d}" for key, _, number in pairs],
        "video": [name_to_text(video.video_id) for _, video, _ in pairs],
        "key": [key for key, _, _ in pairs],
        "number": [number for _, _, number in pairs],
        "signature": [video.signature for _, video, _ in pairs],
        "duration": [video.duration for _, video, _ in pairs],
        "start": [window.start for window in windows],
        "end": [window.end for window in windows],
        "frame_times": [list(window.frame_times) for window in windows],
        "frames": pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), flat),
        "mean": pa.FixedSizeListArray.from_arrays(pa.array(means.astype(np.float16).ravel()), means.shape[1]),
        "thumbnail": [window.thumbnail for window in windows],
        "metadata": [json.dumps(dict(video.metadata)) for _, video, _ in pairs],
    }
    return pa.table(
        [
            pa.array(columns[field.name], field.type) if isinstance(columns[field.name], list) else columns[field.name]
            for field in schema
        ],
        schema=schema,
    )


def _among(keys: Iterable[str]) -> str:
    return f"key IN ({', '.join(repr(key) for key in keys)})"


def _open(path: str) -> Store | None:
    """The index at a path, if there is one."""
    folder = _folder(path)
    if folder is not None and not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(f"{path} is a file; expected the folder of an index")
        return None  # to connect would make the folder
    with _reading(path):
        database = _connect(path)
        table = _open_table(database, _WINDOWS)
        if table is None:
            return None
        metadata = table.schema.metadata or {}
    return Store(path, database, table, About.from_json(metadata.get(_ABOUT_KEY, b""), path))


def _connect(path: str) -> Any:
    return lancedb.connect(_folder(path) or path)


def _open_table(database: Any, name: str) -> Any:
    """A table, if it is there and has at least a first version."""
    try:
        return database.open_table(name)
    except (ValueError, FileNotFoundError) as error:
        if "not found" in str(error):
            return None
        raise


def _folder(path: str) -> Path | None:
    """The folder of an index, None if it lies on object storage."""
    if path.startswith("file://"):
        return Path(url2pathname(urlsplit(path).path))
    return None if "://" in path else Path(path)


_BELOW = (RuntimeError, OSError, ValueError)  # what LanceDB has for all that goes wrong below it


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except _BELOW as error:
        raise StoreError(f"{path}: the index can't be written: {_reason(error)}") from error


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except _BELOW as error:
        raise OSError(f"{path}: the index can't be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong, out of a page of a library's own layers."""
    known = re.search(
        r"No space left on device|File too large|Permission denied|Read-only file system|Connection refused|"
        r"dns error|operation timed out|NoSuchBucket|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|"
        r"(?:401 Unauthorized|403 Forbidden)",
        str(error),
    )
    # What a library of Rust says is a page in one line, of which the beginning tells most.
    return known[0] if known else textwrap.shorten(one_line(error), _LONGEST_REASON, placeholder=" ...")
