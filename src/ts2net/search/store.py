"""The stored index: a LanceDB table with a row for each window, and smaller tables, in a folder or on object storage.

- All rows of a video are added or removed in one commit of the table of windows, so a reader, and the next run after a
  kill, find only complete videos. The table of broken videos is written in a second commit; the same command can
  resume after either of them.
- Readers never wait. In a folder, a lock refuses a second writer. Object storage has no lock, so the caller has to
  ensure that there is only one writer.
- Old versions are kept for ten minutes, so that a search that began before a commit can finish.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ..videos.broken import BrokenVideo
from .about import FORMAT, SEARCHABLE_FORMATS, About, AboutError
from .broken import BrokenTable
from .columns import id_from_text, id_to_text, join_signature, renamed_rows, video_key
from .database import among
from .file_checksums import FileCheck, check_files, forget_files, note_files
from .location import connect, has_folder, index_folder, only_writer
from .mending import mend_tables
from .names import NamesTable, NotedVideo
from .records import IndexedVideo, Track
from .roots import Roots, RootsTable
from .snapshot import Snapshot
from .spoken import SPOKEN, SpokenTable, spoken_rows, timed_videos
from .store_errors import reading, writing
from .unrelated import UnrelatedTable
from .video_rows import LatestVideoRows
from .window_indexes import MIN_INDEXED_WINDOWS, drop_indexes, update_vector_index
from .windows_table import VIDEOS_A_COMMIT, WINDOWS, WindowsTable

_KEEP_OLD_VERSIONS = timedelta(minutes=10)


class Store:
    """An open index.

    Use [`Store.open`] to read and [`Store.write`] to write. Every method raises `OSError` if the index can't be read,
    and `StoreError` if it can't be written.
    """

    def __init__(
        self, path: str, database: Any, windows: WindowsTable, about: About, roots: Roots | None = None
    ) -> None:
        self.path = path
        self.about = about
        self._database = database
        self._roots = roots or Roots()
        self._windows = windows
        self._broken = BrokenTable(database)
        self._names = NamesTable(database)
        self._spoken = SpokenTable(database)
        self._unrelated = UnrelatedTable(database)
        self._video_rows = LatestVideoRows()

    @staticmethod
    def open(path: str | os.PathLike[str]) -> "Store":
        """Open an index for reading.

        Args:
            path: A folder, or an address that LanceDB accepts, such as `s3://bucket/index`.

        Raises:
            FileNotFoundError: If there is no index.
            AboutError: If its format can't be searched.
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
        """Return what an index was made with, also for an older format that can be converted; `None` without an index.

        Raises:
            AboutError: If the format is not supported.
            OSError: If the index can't be read.
        """
        store = _open(os.fspath(path))
        return None if store is None else store.about

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether there is an index of any format.

        Raises:
            OSError: If its location can't be read.
        """
        try:
            return _open(os.fspath(path)) is not None
        except AboutError:
            return True

    @staticmethod
    def create(path: str | os.PathLike[str], about: About) -> "Store":
        """Create an empty index. The caller has to be its only writer, see [`Store.write`].

        Raises:
            FileExistsError: If there is an index already.
            StoreError: If the index can't be written.
        """
        path = os.fspath(path)
        if Store.exists(path):
            raise FileExistsError(f"{path}: there is an index already")
        with writing(path):
            database = connect(path)
            windows = WindowsTable.create(database, about)
        return Store(path, database, windows, about)

    @staticmethod
    @contextlib.contextmanager
    def write(path: str | os.PathLike[str], about: About | None = None) -> Iterator["Store"]:
        """Open an index as its only writer. An index of an older format is converted.

        Args:
            path: A folder, or an address.
            about: What a new index is made with. `None` doesn't create an index.

        Raises:
            FileNotFoundError: If there is no index, and `about` is `None`.
            BlockingIOError: If another process is writing to the index.
            AboutError: If its format can't be converted.
            StoreError: If it can't be written.
        """
        path = os.fspath(path)
        if about is None:
            _open_present(path)  # because the lock would create the folder
        with only_writer(path):
            store = _open_present(path) if about is None else _open(path) or Store.create(path, about)
            if store.about.format != FORMAT:
                store._convert()
            store._note_all()
            yield store
            store._note_files()

    @staticmethod
    @contextlib.contextmanager
    def repair(path: str | os.PathLike[str]) -> Iterator[tuple["Store", list[str], FileCheck]]:
        """Open a damaged index as its only writer, after resetting or removing tables that can't be opened.

        A table whose latest version can't be opened is reset to an earlier version. A smaller table is removed if it
        still can't be read, or if its files differ from what was written.

        Yields:
            The index, the names of tables that were reset or removed, and the check of the files before that.

        Raises:
            FileNotFoundError: If there is no index.
            AboutError: If its format can't be searched.
            BlockingIOError: If another process is writing to the index.
            DamageError: If no version of its table of windows can be opened.
        """
        path = os.fspath(path)
        if not has_folder(path):
            raise FileNotFoundError(f"{path}: there is no index")
        folder = index_folder(path)
        with only_writer(path):
            files = check_files(folder)
            mended = mend_tables(path, files.changed)
            store = Store.open(path)
            if SPOKEN in mended:
                store._forget_subtitles()
            yield store, mended, files
            forget_files(folder)
            store._note_files()

    # -- reading

    def snapshot(self, version: int | None = None) -> Snapshot:
        """Return the latest version of the index, or the given version of its table of windows."""
        with reading(self.path):
            table = self._database.open_table(WINDOWS)
            if version is not None:
                table.checkout(version)
            return Snapshot(self.path, self._database, table, RootsTable(self._database).read(), self._video_rows)

    def noted(self) -> dict[str, NotedVideo]:
        """Return the recorded videos, which the index should have, by key."""
        with reading(self.path):
            return self._names.read()

    def present_id(self, noted: NotedVideo) -> str:
        """Return the id of a recorded video."""
        return self._roots.to_present(id_from_text(noted.video))

    def broken(self) -> list[BrokenVideo]:
        """Return the videos that can't be indexed, sorted by id."""
        with reading(self.path):
            named = self._broken.read()
        videos = [replace(video, video_id=self._roots.to_present(video.video_id)) for video in named]
        return sorted(videos, key=lambda video: video.video_id)

    def subtitles(self) -> dict[str, str | None]:
        """Return the signature of the subtitles that were read of each video; `None` if none were searched for yet."""
        return {self.present_id(video): video.subtitles for video in self.noted().values()}

    def unrelated_scores(self) -> tuple[dict[str, float], int] | None:
        """Return the best score of each unrelated caption, and the number of windows then; `None` without scores."""
        with reading(self.path):
            return self._unrelated.read()

    # -- writing

    def add(self, videos: Sequence[IndexedVideo]) -> None:
        """Add videos, or replace videos of the same ids, in one commit.

        Raises:
            ValueError: If a video is given twice, or has no window.
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
            self._broken.forget(keys)
            self._windows.add(videos)
            noted = (NotedVideo(id_to_text(video.video_id), len(video.windows), video.metadata) for video in videos)
            self._names.note(dict(zip(keys, noted, strict=True)))
            self._spoken.forget(keys)

    def drop(self, video_ids: Iterable[str]) -> None:
        """Remove videos, indexed or broken, in one commit."""
        keys = [self._key(video_id) for video_id in video_ids]
        if not keys:
            return
        with writing(self.path):
            self._names.forget(keys)
            self._broken.forget(keys)
            self._spoken.forget(keys)
            self._windows.drop(keys)

    def mark_broken(self, videos: Sequence[BrokenVideo]) -> None:
        """Record videos that can't be indexed, and remove their windows."""
        if not videos:
            return
        self.drop(video.video_id for video in videos)
        with writing(self.path):
            self._broken.add([replace(video, video_id=self._roots.to_name(video.video_id)) for video in videos])

    def set_metadata(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Replace all metadata of indexed videos, and change nothing else.

        Args:
            metadata: New metadata by video id.
        """
        by_key = {self._key(video_id): values for video_id, values in metadata.items()}
        with writing(self.path):
            self._windows.set_metadata(by_key)
            noted = self._names.read()
            self._names.note({key: replace(noted[key], metadata=by_key[key]) for key in by_key if key in noted})

    def rename(self, videos: Mapping[str, tuple[str, str, str]]) -> None:
        """Change the ids or signatures of indexed videos, and nothing else.

        Args:
            videos: By old id: the new id, the signature of the file and the digest of its content.
        """
        moves = [
            (self._key(old), (self._roots.to_name(new), join_signature(signature, content)))
            for old, (new, signature, content) in videos.items()
        ]
        for first in range(0, len(moves), VIDEOS_A_COMMIT):
            with writing(self.path):
                self._rename(dict(moves[first : first + VIDEOS_A_COMMIT]))

    def _rename(self, videos: Mapping[str, tuple[str, str]]) -> None:
        """Rename videos in all tables. See [`columns.renamed_rows`]."""
        rows = self._windows.rows(videos)
        names = {old: videos[old][0] for old in rows["key"].unique().to_pylist()}
        keys = {old: video_key(name) for old, name in names.items()}
        self._broken.forget(keys.values())
        noted = self._names.read()
        self._names.forget(keys)
        self._windows.replace({*keys, *keys.values()}, renamed_rows(rows, videos))
        self._spoken.rename(keys)
        self._names.note(
            {keys[old]: replace(noted[old], video=id_to_text(name)) for old, name in names.items() if old in noted}
        )

    def move_root(self, old: str, new: str) -> None:
        """Record that a folder of videos has moved.

        Args:
            old: Former path, as the index has it.
            new: New path.
        """
        roots = self._roots.with_move(old, new)
        with writing(self.path):
            RootsTable(self._database).replace(roots)
        self._roots = roots

    def set_spoken(self, videos: Mapping[str, tuple[Sequence[Track], str | None]]) -> None:
        """Replace the spoken words of indexed videos.

        Args:
            videos: By id: the tracks of the subtitles and their signature. `None` has the subtitles read again.
        """
        by_key = {self._key(video_id): spoken for video_id, spoken in videos.items()}
        with writing(self.path):
            rows = [
                row
                for video in timed_videos(self._windows.table, among(by_key))
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

    def set_unrelated_scores(self, captions: Sequence[str], scores: Sequence[float], num_windows: int) -> None:
        """Replace the scores of unrelated captions.

        Args:
            captions: The captions.
            scores: The best score of each.
            num_windows: Number of windows of the index.
        """
        with writing(self.path):
            self._unrelated.replace(captions, scores, num_windows)

    def _key(self, video_id: str) -> str:
        return video_key(self._roots.to_name(video_id))

    def check_files(self) -> FileCheck:
        """Compare the files of the index with their checksums. There are no checksums on object storage.

        Raises:
            OSError: If a file can't be read.
        """
        return check_files(index_folder(self.path))

    def _note_files(self) -> None:
        with writing(self.path):
            note_files(index_folder(self.path))

    def _note_all(self) -> None:
        """Record the videos that a killed process, or an older version of this package, did not record."""
        with writing(self.path):
            noted = self._names.read()
            keys = self._windows.keys() - noted.keys()
            if not keys:
                return
            windows = self._windows.window_counts()
        videos = {self._key(video.video_id): video for video in self.snapshot().videos()}
        texts = {key: id_to_text(self._roots.to_name(videos[key].video_id)) for key in keys}
        with writing(self.path):
            self._names.note({key: NotedVideo(texts[key], windows[key], videos[key].metadata) for key in keys})

    # -- upkeep

    def update_vector_index(self, min_windows: int = MIN_INDEXED_WINDOWS) -> bool:
        """Create the vector index, or create it again if it misses at least a fifth of the windows.

        Args:
            min_windows: Minimum number of windows for a vector index.

        Returns:
            Whether it was created.
        """
        with writing(self.path):
            return update_vector_index(self._windows.table, min_windows)

    def update_spoken(self) -> None:
        """Update the full-text index, and remove the spoken words of videos that are no longer indexed."""
        with writing(self.path):
            self._spoken.keep(self._names.read())
            self._spoken.update_index(**self._compaction())

    def compact(self) -> None:
        """Merge many small files into a few large ones, and free the space of versions that are no longer read."""
        with writing(self.path):
            if self._windows.compact(**self._compaction()):
                self._names.compact(**self._compaction())

    def _compaction(self) -> dict[str, Any]:
        """Settings of LanceDB's `optimize`."""
        # On object storage, a file that belongs to no version may be the next commit of another process.
        is_locked = index_folder(self.path) is not None
        return {"cleanup_older_than": _KEEP_OLD_VERSIONS, "delete_unverified": is_locked}

    def _convert(self) -> None:
        """Convert an index of an older format to the present one."""
        about = replace(self.about, format=FORMAT)
        with writing(self.path):
            self._windows.convert(about)
        self.about = about

    def drop_indexes(self) -> None:
        """Remove the database's own indexes. The methods that update them create them again."""
        with writing(self.path):
            drop_indexes(self._windows.table)
            self._spoken.drop_index()

    def rebuild(self, rows: Sequence[int]) -> None:
        """Keep only some windows, in one commit. For an index whose other windows can't be read.

        Args:
            rows: See [`Snapshot.row_ids`].
        """
        with writing(self.path):
            self._windows.keep(rows)
            self._spoken.drop_index()

    def forget(self, keys: Iterable[str]) -> None:
        """Remove videos, by key, from the recorded videos."""
        with writing(self.path):
            self._names.forget(keys)


def _open_present(path: str) -> Store:
    store = _open(path)
    if store is None:
        raise FileNotFoundError(f"{path}: there is no index; `ts2net index VIDEOS --out {path}` makes one")
    return store


def _open(path: str) -> Store | None:
    """Open the index of a path, if there is one."""
    if not has_folder(path):
        return None
    with reading(path):
        database = connect(path)
        windows = WindowsTable.open(database)
        if windows is None:
            return None
        about, roots = windows.about, RootsTable(database).read()
    return Store(path, database, windows, About.from_json(about, path), roots)
