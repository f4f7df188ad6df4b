"""The index on disk: one LanceDB table with a row for each window, in a folder or on object storage.

Notable here:
- A video's rows are added and removed in one commit of the one table, so a reader, and the next run after a kill, find
  whole videos. The table of broken videos is a second commit; after either of the two the same command can go on.
- Readers never wait. A second writer is refused, by a lock where the index is a folder. Object storage has no lock:
  who starts writers there has to see to it that there is only one.
- Old versions are kept for ten minutes, so that a search that began before a commit ends well.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
from huggingface_hub.utils import WeakFileLock

from ..lazy import name_missing_extra
from ..videos.broken import BrokenVideo
from .about import FORMAT, SEARCHABLE_FORMATS, About, AboutError
from .columns import (
    ABOUT_KEY,
    id_from_text,
    id_to_text,
    join_signature,
    metadata_arrays,
    metadata_column,
    metadata_fields,
    metadata_names,
    video_key,
    window_rows,
    windows_schema,
)
from .database import open_table
from .file_checksums import FileCheck, check_files, forget_files, note_files
from .mending import mend_tables
from .names import NAMES, NamesTable, NotedVideo
from .older_formats import converted_batches, metadata_names_of_older
from .records import IndexedVideo, Track
from .roots import Roots
from .spoken import SPOKEN, SpokenTable, spoken_rows, timed_videos
from .store_errors import reading, writing

with name_missing_extra():
    import lancedb
    from lancedb.index import BTree, IvfRq

from .snapshot import VECTOR_COLUMN, Snapshot

MIN_INDEXED_WINDOWS = 20_000  # fewer are searched in a moment without indexes of the database

_WINDOWS, _BROKEN, _UNRELATED, _ROOTS, _LOCK = "windows", "broken", "unrelated", "roots", ".lock"
# An exact search reads all frames, and this version of the files gives lists about twice as fast as newer ones.
_STORAGE = {"new_table_data_storage_version": "2.0"}
_MANY_SMALL_FILES = 16
_VIDEOS_A_COMMIT_OF_METADATA = 64
_ROWS_A_PART = 1024
_KEEP_OLD_VERSIONS = timedelta(minutes=10)
_BROKEN_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("video", "key", "signature", "reason")])
_ROOTS_SCHEMA = pa.schema([pa.field("then", pa.string()), pa.field("now", pa.string())])
_UNRELATED_SCHEMA = pa.schema(
    [pa.field("caption", pa.string()), pa.field("score", pa.float32()), pa.field("num_windows", pa.int64())]
)
_STALE_SHARE = 0.2  # of rows that an index of the database does not cover
# The vector index: 4 bits a dimension (RaBitQ) beside the centre of the partition. All partitions are searched, which
# takes some 20 ms for a million windows on one core. They are few, since finding a vector's partition is what takes
# long in float16.
_BITS = 4
_WINDOWS_A_PARTITION = 65_536


class Store:
    """An open index.

    Use [`Store.open`] to read and [`Store.write`] to write.
    """

    def __init__(self, path: str, database: Any, table: Any, about: About, roots: Roots | None = None) -> None:
        self.path = path
        self.about = about
        self._database = database
        self._table = table
        self._roots = roots or Roots()
        self._names = NamesTable(database)
        self._spoken = SpokenTable(database)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Store":
        """Open an index to read it.

        Args:
            path: A folder, or an address that LanceDB takes, such as `s3://bucket/index`.

        Raises:
            FileNotFoundError: If there is none.
            AboutError: If it is of another format.
            OSError: If it can't be read.
        """
        store = _open_present(os.fspath(path))
        if store.about.format not in SEARCHABLE_FORMATS:
            raise AboutError(
                f"{store.path}: an index of format {store.about.format}, and this ts2net searches format {FORMAT}: "
                f"`ts2net index --out {store.path}` converts it, without decoding a video again"
            )
        return store

    @staticmethod
    def read_about(path: str | os.PathLike[str]) -> About | None:
        """What an index is made with, or `None` if there is no index. It may be of a format that a write converts.

        Raises:
            AboutError: If it is of another format.
            OSError: If it can't be read.
        """
        store = _open(os.fspath(path))
        return None if store is None else store.about

    @staticmethod
    @contextlib.contextmanager
    def write(path: str | os.PathLike[str], about: About | None = None) -> Iterator["Store"]:
        """Open an index as its only writer. An index of an older format is converted.

        Args:
            path: A folder, or an address.
            about: What a new index is made with. `None` makes none.

        Raises:
            FileNotFoundError: If there is no index, and `about` is `None`.
            BlockingIOError: If another process is writing.
            AboutError: If it is of a format that can't be converted.
            StoreError: If it can't be written.
        """
        path = os.fspath(path)
        if about is None:
            _open_present(path)  # so that the lock makes no folder
        with _only_writer(path):
            store = _open_present(path) if about is None else _open(path) or Store.create(path, about)
            if store.about.format != FORMAT:
                store = store._converted()
            store._note_all()
            yield store
            store._note_files()

    @staticmethod
    @contextlib.contextmanager
    def repair(path: str | os.PathLike[str]) -> Iterator[tuple["Store", list[str], FileCheck]]:
        """Open a damaged index as its only writer, after its tables were brought to what can be opened.

        A table whose latest version can't be opened goes back to the one before. Of the smaller tables, those that
        still can't be read are removed, and so are those whose files are not as they were written.

        Yields:
            The index, the names of tables that were removed or went back, and the files as they were before.

        Raises:
            FileNotFoundError: If there is no index.
            AboutError: If it is of another format.
            BlockingIOError: If another process is writing.
            DamageError: If no version of its windows can be opened.
        """
        path = os.fspath(path)
        folder = _folder(path)
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"{path}: there is no index")
        with _only_writer(path):
            smaller = (_BROKEN, _UNRELATED, _ROOTS, NAMES, SPOKEN)
            files = FileCheck() if folder is None else check_files(folder)
            mended = mend_tables(path, _connect(path), folder, _WINDOWS, smaller, files.changed)
            store = Store.open(path)
            if SPOKEN in mended:
                store._forget_subtitles()
            yield store, mended, files
            if folder is not None:
                forget_files(folder)
            store._note_files()

    def noted(self) -> dict[str, NotedVideo]:
        """The videos that the index should have, by key."""
        with reading(self.path):
            return self._names.read()

    def present_id(self, noted: NotedVideo) -> str:
        """The id of a noted video."""
        return self._roots.to_present(id_from_text(noted.video))

    def rebuild(self, rows: Sequence[int]) -> None:
        """Keep some windows and nothing else, in one commit. For an index of which others can't be read.

        Args:
            rows: See [`Snapshot.row_ids`].

        Raises:
            StoreError: If it can't be written.
        """
        snapshot, kept = self.snapshot(), sorted(rows)
        parts = (kept[first : first + _ROWS_A_PART] for first in range(0, len(kept), _ROWS_A_PART))
        schema = self._table.schema
        batches = (batch for part in parts for batch in snapshot.whole_rows(part).select(schema.names).to_batches())
        with writing(self.path):
            self._table = self._database.create_table(
                _WINDOWS,
                data=pa.RecordBatchReader.from_batches(schema, batches),
                mode="overwrite",
                storage_options=_STORAGE,
            )
            self._spoken.drop_index()

    def forget(self, keys: Iterable[str]) -> None:
        """Remove videos, by key, from those that the index should have.

        Raises:
            StoreError: If it can't be written.
        """
        with writing(self.path):
            self._names.forget(keys)

    def drop_indexes(self) -> None:
        """Remove the indexes of the database; [`Store.update_indexes`] makes them anew.

        Raises:
            StoreError: If it can't be written.
        """
        with writing(self.path):
            for index in self._table.list_indices():
                self._table.drop_index(index.name)
            self._spoken.drop_index()

    @staticmethod
    def create(path: str | os.PathLike[str], about: About) -> "Store":
        """Make an empty index. Only for the only writer; see [`Store.write`].

        Raises:
            FileExistsError: If there is one already.
            StoreError: If it can't be written.
        """
        path = os.fspath(path)
        if Store.exists(path):
            raise FileExistsError(f"{path}: there is an index already")
        with writing(path):
            database = _connect(path)
            table = database.create_table(_WINDOWS, schema=windows_schema(about), storage_options=_STORAGE)
        return Store(path, database, table, about)

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether there is an index, of whatever format.

        Raises:
            OSError: If its location can't be read.
        """
        try:
            return _open(os.fspath(path)) is not None
        except AboutError:
            return True

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The index as the latest commit left it, or as the one of a version of its windows did."""
        with reading(self.path):
            table = self._database.open_table(_WINDOWS)
            if version is not None:
                table.checkout(version)
            return Snapshot(self.path, self._database, table, _read_roots(self._database))

    def broken(self) -> list[BrokenVideo]:
        """The videos that can't be indexed, sorted by id."""
        with reading(self.path):
            table = self._broken_table()
            rows = [] if table is None else table.to_arrow().to_pylist()
        present = self._roots.to_present
        videos = [BrokenVideo(present(id_from_text(row["video"])), row["reason"], row["signature"]) for row in rows]
        return sorted(videos, key=lambda video: video.video_id)

    def unrelated_scores(self) -> tuple[dict[str, float], int] | None:
        """The best score of each unrelated caption, and how many windows there were; `None` if there are none.

        Raises:
            OSError: If they can't be read.
        """
        with reading(self.path):
            table = open_table(self._database, _UNRELATED)
            columns = None if table is None else table.to_arrow()
        if columns is None or not columns.num_rows:
            return None
        scores = zip(columns["caption"].to_pylist(), columns["score"].to_pylist(), strict=True)
        return dict(scores), columns["num_windows"][0].as_py()

    def set_unrelated_scores(self, captions: Sequence[str], scores: Sequence[float], num_windows: int) -> None:
        """Replace the scores of unrelated captions.

        Args:
            captions: The captions.
            scores: The best score of each.
            num_windows: How many windows the index has.

        Raises:
            StoreError: If it can't be written.
        """
        columns = {"caption": captions, "score": scores, "num_windows": [num_windows] * len(scores)}
        with writing(self.path):
            rows = pa.table(columns, schema=_UNRELATED_SCHEMA)
            is_new = open_table(self._database, _UNRELATED) is None
            mode = "create" if is_new else "overwrite"
            self._database.create_table(_UNRELATED, data=rows, mode=mode, storage_options=_STORAGE)

    def add(self, videos: Sequence[IndexedVideo]) -> None:
        """Add videos, or replace those of the same ids, in one commit.

        Raises:
            StoreError: If it can't be written.
            ValueError: If a video is among them twice, or has no window.
        """
        if not videos:
            return
        videos = [replace(video, video_id=self._roots.to_name(video.video_id)) for video in videos]
        keys = [video_key(video.video_id) for video in videos]
        if len(set(keys)) < len(keys):
            raise ValueError("a video is among those to add twice")
        empty = next((video.video_id for video in videos if not video.windows), None)
        if empty is not None:
            raise ValueError(f"{empty}: a video to add has no window")
        with writing(self.path):
            self._add_metadata_columns(name for video in videos for name in video.metadata)
            rows = window_rows(videos, self._table.schema)
            self._remove_broken(keys)
            if not self._table.count_rows(f"number = 0 AND {_among(keys)}"):
                self._table.add(rows)
            else:
                merge = self._table.merge_insert("window").when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(_among(keys)).execute(rows)
            noted = (NotedVideo(id_to_text(video.video_id), len(video.windows), video.metadata) for video in videos)
            self._names.note(dict(zip(keys, noted, strict=True)))
            self._spoken.forget(keys)

    def drop(self, video_ids: Iterable[str]) -> None:
        """Remove videos, indexed or broken, in one commit.

        Raises:
            StoreError: If it can't be written.
        """
        keys = [self._key(video_id) for video_id in video_ids]
        if not keys:
            return
        with writing(self.path):
            self._names.forget(keys)
            self._remove_broken(keys)
            self._spoken.forget(keys)
            self._table.delete(_among(keys))

    def set_metadata(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Replace all metadata of indexed videos, and change nothing else.

        Args:
            metadata: By video id.

        Raises:
            StoreError: If it can't be written.
        """
        by_key = {self._key(video_id): values for video_id, values in metadata.items()}
        keys = list(by_key)
        with writing(self.path):
            self._add_metadata_columns(name for values in metadata.values() for name in values)
            names = metadata_names(self._table.schema.names)
            for first in range(0, len(keys), _VIDEOS_A_COMMIT_OF_METADATA):
                some = keys[first : first + _VIDEOS_A_COMMIT_OF_METADATA]
                rows = self._table.search().where(_among(some)).select(["window", "key"]).limit(None).to_arrow()
                arrays = metadata_arrays([by_key[key] for key in rows["key"].to_pylist()], names)
                changed = pa.table({"window": rows["window"]} | arrays)
                self._table.merge_insert("window").when_matched_update_all().execute(changed)
            noted = self._names.read()
            self._names.note({key: replace(noted[key], metadata=by_key[key]) for key in keys if key in noted})

    def mark_broken(self, videos: Sequence[BrokenVideo]) -> None:
        """Note videos that can't be indexed, and remove what was indexed of them before.

        Raises:
            StoreError: If it can't be written.
        """
        if not videos:
            return
        self.drop(video.video_id for video in videos)
        rows = [
            {
                "video": id_to_text(self._roots.to_name(video.video_id)),
                "key": self._key(video.video_id),
                "signature": video.signature,
                "reason": video.reason.encode(errors="backslashreplace").decode(),
            }
            for video in videos
        ]
        with writing(self.path):
            table = self._broken_table()
            if table is None:
                table = self._database.create_table(_BROKEN, schema=_BROKEN_SCHEMA)
            table.add(pa.Table.from_pylist(rows, schema=_BROKEN_SCHEMA))

    def rename(self, videos: Mapping[str, tuple[str, str, str]]) -> None:
        """Give indexed videos another id or another signature, and change nothing else.

        Args:
            videos: By the id until now: the id from now on, the file's signature and the digest of its content.

        Raises:
            StoreError: If it can't be written.
        """
        names = list(videos)
        for first in range(0, len(names), _VIDEOS_A_COMMIT_OF_METADATA):
            some = {self._key(name): videos[name] for name in names[first : first + _VIDEOS_A_COMMIT_OF_METADATA]}
            with writing(self.path):
                rows = self._table.search().where(_among(some)).limit(None).to_arrow()
                olds = rows["key"].to_pylist()
                texts = [self._roots.to_name(some[old][0]) for old in olds]
                keys = [video_key(text) for text in texts]
                numbers = rows["number"].to_pylist()
                new = {
                    "window": [f"{key}-{number:06d}" for key, number in zip(keys, numbers, strict=True)],
                    "video": [id_to_text(text) for text in texts],
                    "key": keys,
                    "signature": [join_signature(*some[old][1:]) for old in olds],
                }
                for column, values in new.items():
                    field = rows.schema.field(column)
                    rows = rows.set_column(rows.schema.get_field_index(column), field, pa.array(values, field.type))
                self._remove_broken(keys)
                noted = self._names.read()
                self._names.forget(set(olds))
                merge = self._table.merge_insert("window").when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(_among({*olds, *keys})).execute(rows)
                moves = {old: (key, text) for old, key, text in zip(olds, keys, texts, strict=True)}
                self._spoken.rename({old: key for old, (key, _) in moves.items()})
                self._names.note(
                    {
                        key: replace(noted[old], video=id_to_text(text))
                        for old, (key, text) in moves.items()
                        if old in noted
                    }
                )

    def subtitles(self) -> dict[str, str | None]:
        """The signature of the subtitles that were read of each video, `None` where nobody has looked for any yet.

        Raises:
            OSError: If it can't be read.
        """
        return {self.present_id(video): video.subtitles for video in self.noted().values()}

    def set_spoken(self, videos: Mapping[str, tuple[Sequence[Track], str | None]]) -> None:
        """Replace what is spoken in indexed videos.

        Args:
            videos: By id: the tracks of the subtitles, and their signature; `None` to have them read again.

        Raises:
            StoreError: If it can't be written.
        """
        by_key = {self._key(video_id): spoken for video_id, spoken in videos.items()}
        with writing(self.path):
            rows = [
                row
                for video in timed_videos(self._table, _among(by_key))
                for row in spoken_rows(video, by_key[video.key][0], self.about.windows)
            ]
            self._spoken.replace(list(by_key), rows)
            noted = self._names.read()
            self._names.note(
                {key: replace(noted[key], subtitles=by_key[key][1]) for key in by_key.keys() & noted.keys()}
            )

    def _forget_subtitles(self) -> None:
        """Have the subtitles of all videos read again."""
        with writing(self.path):
            self._names.note({key: replace(video, subtitles=None) for key, video in self._names.read().items()})

    def move_root(self, old: str, new: str) -> None:
        """Note that a folder of videos is elsewhere now.

        Args:
            old: Where it was, as the index says now.
            new: Where it is.

        Raises:
            StoreError: If it can't be written.
        """
        roots = self._roots.with_move(old, new)
        columns = {name: [id_to_text(pair[side]) for pair in roots.moves] for side, name in enumerate(("then", "now"))}
        with writing(self.path):
            mode = "create" if open_table(self._database, _ROOTS) is None else "overwrite"
            rows = pa.table(columns, schema=_ROOTS_SCHEMA)
            self._database.create_table(_ROOTS, data=rows, mode=mode, storage_options=_STORAGE)
        self._roots = roots

    def check_files(self) -> FileCheck:
        """Compare the files of the index with their checksums. There are none on object storage.

        Raises:
            OSError: If a file can't be read.
        """
        folder = _folder(self.path)
        return FileCheck() if folder is None else check_files(folder)

    def _note_files(self) -> None:
        folder = _folder(self.path)
        if folder is not None:
            with writing(self.path):
                note_files(folder)

    def _note_all(self) -> None:
        """Note the videos that a killed process, or an older version of this package, did not note."""
        with writing(self.path):
            noted = self._names.read()
            first = self._table.search().where("number = 0").limit(None)
            keys = set(first.select(["key"]).to_arrow()["key"].to_pylist()) - noted.keys()
            if not keys:
                return
            windows = Counter(self._table.search().select(["key"]).limit(None).to_arrow()["key"].to_pylist())
        videos = {self._key(video.video_id): video for video in self.snapshot().videos()}
        texts = {key: id_to_text(self._roots.to_name(videos[key].video_id)) for key in keys}
        with writing(self.path):
            self._names.note({key: NotedVideo(texts[key], windows[key], videos[key].metadata) for key in keys})

    def _key(self, video_id: str) -> str:
        return video_key(self._roots.to_name(video_id))

    def compact(self) -> None:
        """Join many small files into a few large ones, and free the space of versions that nobody reads any more.

        Raises:
            StoreError: If it can't be written.
        """
        with writing(self.path):
            if self._table.stats()["fragment_stats"]["num_small_fragments"] < _MANY_SMALL_FILES:
                return
            # On object storage, a file of no version may belong to another process that is about to commit it.
            is_locked = _folder(self.path) is not None
            self._table.optimize(cleanup_older_than=_KEEP_OLD_VERSIONS, delete_unverified=is_locked)
            self._names.compact(cleanup_older_than=_KEEP_OLD_VERSIONS, delete_unverified=is_locked)

    def update_spoken(self) -> None:
        """Bring the full-text index up to date, and remove what is spoken in videos that are no longer there.

        Raises:
            StoreError: If it can't be written.
        """
        with writing(self.path):
            self._spoken.keep(self._names.read())
            is_locked = _folder(self.path) is not None
            self._spoken.update_index(cleanup_older_than=_KEEP_OLD_VERSIONS, delete_unverified=is_locked)

    def update_indexes(self, min_windows: int = MIN_INDEXED_WINDOWS) -> bool:
        """Make the indexes of the database, or make them anew when they don't cover a fifth of the windows.

        These are the vector index, and one for each column of metadata.

        Args:
            min_windows: A smaller index gets none.

        Returns:
            Whether one was made.

        Raises:
            StoreError: If it can't be written.
        """
        with writing(self.path):
            windows = int(self._table.count_rows())
            if windows < min_windows:
                return False
            partitions = -(-windows // _WINDOWS_A_PARTITION)
            wanted: dict[str, Any] = {
                VECTOR_COLUMN: IvfRq(distance_type="dot", num_bits=_BITS, num_partitions=partitions)
            }
            wanted |= {metadata_column(name): BTree() for name in metadata_names(self._table.schema.names)}
            for index in self._table.list_indices():
                if (index.num_unindexed_rows or 0) < _STALE_SHARE * windows:
                    wanted = {name: config for name, config in wanted.items() if name not in index.columns}
            for column, config in wanted.items():
                self._table.create_index(column, config=config, replace=True)
            return bool(wanted)

    def _add_metadata_columns(self, names: Iterable[str]) -> None:
        new = sorted(set(names) - set(metadata_names(self._table.schema.names)))
        if new:
            self._table.add_columns(pa.schema(metadata_fields(new)))

    def _broken_table(self) -> Any:
        return open_table(self._database, _BROKEN)

    def _remove_broken(self, keys: Sequence[str]) -> None:
        table = self._broken_table()
        if table is not None and table.count_rows(_among(keys)):
            table.delete(_among(keys))

    def _converted(self) -> "Store":
        """The index in the present format: the same rows in one commit, after which the old ones are gone."""
        about = replace(self.about, format=FORMAT)
        with writing(self.path):
            names = metadata_names_of_older(self._table.search(), self._table.schema.names)
            schema = windows_schema(about, names)
            rows = converted_batches(self._table.search(), schema)
            table = self._database.create_table(
                _WINDOWS,
                data=pa.RecordBatchReader.from_batches(schema, rows),
                mode="overwrite",
                storage_options=_STORAGE,
            )
        return Store(self.path, self._database, table, about, self._roots)


@contextlib.contextmanager
def _only_writer(path: str) -> Iterator[None]:
    """Keep other writers out of an index, which need not exist yet."""
    folder = _folder(path)
    if folder is None:  # object storage
        yield
        return
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(folder / _LOCK, timeout=1))
        except TimeoutError:
            raise BlockingIOError(f"{folder}: another process is writing to this index") from None
        yield


def check_no_writer(path: str) -> None:
    """Check that no process is writing to an index, before any work is done for it.

    Raises:
        BlockingIOError: If one is.
    """
    folder = _folder(path)
    if folder is not None and (folder / _LOCK).exists():
        with _only_writer(path):
            pass


def _among(keys: Iterable[str]) -> str:
    return f"key IN ({', '.join(map(repr, keys))})"


def _open_present(path: str) -> Store:
    store = _open(path)
    if store is None:
        raise FileNotFoundError(f"{path}: there is no index; `ts2net index VIDEOS --out {path}` makes one")
    return store


def _open(path: str) -> Store | None:
    """The index of a path, if there is one."""
    folder = _folder(path)
    if folder is not None and not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(f"{path} is a file; expected the folder of an index")
        return None  # connecting would make the folder
    with reading(path):
        database = _connect(path)
        table = open_table(database, _WINDOWS)
        if table is None:
            return None
        metadata = table.schema.metadata or {}
        roots = _read_roots(database)
    return Store(path, database, table, About.from_json(metadata.get(ABOUT_KEY, b""), path), roots)


def _read_roots(database: Any) -> Roots:
    """The folders that are elsewhere now."""
    table = open_table(database, _ROOTS)
    rows = [] if table is None else table.to_arrow().to_pylist()
    return Roots(tuple((id_from_text(row["then"]), id_from_text(row["now"])) for row in rows))


def _connect(path: str) -> Any:
    return lancedb.connect(_folder(path) or path)


def _folder(path: str) -> Path | None:
    """The folder of an index, `None` if it lies on object storage."""
    if path.startswith("file://"):
        return Path(url2pathname(urlsplit(path).path))
    return None if "://" in path else Path(path)
