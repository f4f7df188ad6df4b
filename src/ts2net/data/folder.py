"""Read a user's folder of videos with captions.

Captions and files may be untrusted, so the path of a video that leads out of the folder is an error.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any

from ..benchmarks import CaptionReader, Row
from ..benchmarks.reading import expect, field, parse_json, read_csv, read_lines
from ..videos.finding import VIDEO_SUFFIXES, walk_files
from .manifest import check_split
from .shards import MAX_SHARDS_IN_PARALLEL, default_num_shards

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

FOLDER = "folder"
"""Name of this kind of data on the command line."""

WHOLE_FOLDER = "train"
"""Name of the only split of a folder without splits, as in `datasets`."""


@dataclass(frozen=True)
class FolderVideo:
    """A row of a folder's captions, and the video's file, which may be missing."""

    row: Row
    file: Path


def load_folder(
    folder: str | Path,
    split: str,
    streaming: bool,
    captions: str | Path | None = None,
    *,
    follow_links: bool = False,
    skip_empty_captions: bool = False,
) -> "datasets.IterableDataset | datasets.Dataset":
    """Load a folder of videos as a dataset with the standard columns. A row holds the path of its video.

    Args:
        folder: The folder; see [`read_folder`].
        split: Name of the split; see [`read_folder`].
        streaming: Whether to return an `IterableDataset`.
        captions: The file of captions; `captions_file` of [`read_folder`].
        follow_links: Whether to follow links that lead out of the folder.
        skip_empty_captions: Leave out empty captions, and videos that have only empty captions, and log their number.

    Raises:
        ValueError: As in [`read_folder`], or if all videos are missing.
    """
    import datasets

    from .columns import standard_features, standard_row

    reader = CaptionReader(skip_empty_captions)
    videos = read_folder(folder, split, captions, captions=reader, follow_links=follow_links)
    missing = [video.row.video_id for video in videos if not video.file.is_file()]
    if len(missing) == len(videos):
        raise ValueError(f"{folder}: none of the {len(videos)} videos is there, such as {short_repr(missing[0])}")
    if missing:
        logger.warning("%s: %d of %d videos aren't there: %s", folder, len(missing), len(videos), short_repr(missing))
    if reader.skipped:
        logger.warning(
            "%s: %d empty captions are left out, and %d videos that have no other",
            *(folder, len(reader.skipped), len(reader.videos_without)),
        )
    rows = [standard_row(video.row, path=str(video.file.absolute())) for video in videos]
    dataset = datasets.Dataset.from_list(rows, features=standard_features())
    if streaming:
        return dataset.to_iterable_dataset(num_shards=min(default_num_shards(len(rows)), MAX_SHARDS_IN_PARALLEL))
    return dataset


def read_folder(
    folder: str | Path,
    split: str,
    captions_file: str | Path | None = None,
    *,
    captions: CaptionReader | None = None,
    follow_links: bool = False,
) -> list[FolderVideo]:
    """Read the captions of a folder of videos.

    They are read from `captions_file` if given, else from `<split>.csv` or `<split>.jsonl` in the folder, else from
    the subfolder `<split>`. The split `"train"` may also be the whole folder, with `captions.csv`, `captions.jsonl`
    or, without such a file, a text file beside each video.

    - CSV: a header line with the columns `file` and `caption`, and optionally `start` and `end` (seconds).
    - JSON lines: objects with `file`, `caption` or a list `captions`, and optionally `start` and `end`.
    - Text beside `a.mp4`: `a.txt`, with one caption per line.

    A `file` is a path relative to the folder. Lines of the same file and moment are captions of one row. The id of a
    row is that path, followed by the seconds of the moment if there is one.

    Args:
        folder: The folder of the videos, which may be in subfolders.
        split: Name of the split.
        captions_file: The file of the captions of the split, `.csv` or `.jsonl`.
        captions: Checks the captions, and skips or rejects empty ones. `None` rejects them.
        follow_links: Also accept files that are links out of the folder, and enter links to folders.

    Raises:
        NotADirectoryError: If the folder doesn't exist.
        FileNotFoundError: If `captions_file` doesn't exist.
        ValueError: If the split doesn't exist, or a line is invalid or names a file outside of the folder.
    """
    folder = Path(folder)
    check_split(split)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder; expected the one with the videos")
    captions = captions or CaptionReader()
    reader = _FolderReader(folder, captions, follow_links)
    videos = reader.read(split, None if captions_file is None else Path(captions_file))
    captions.videos_without += [video.row.video_id for video in videos if not video.row.captions]
    return [video for video in videos if video.row.captions]


_Line = tuple[str, str, list[str], float | None, float | None]  # location, file, captions, start, end


@dataclass
class _FolderReader:
    folder: Path
    captions: CaptionReader
    follow_links: bool

    def read(self, split: str, captions_file: Path | None) -> list[FolderVideo]:
        folder = self.folder
        if captions_file is not None:
            if not captions_file.is_file():
                raise FileNotFoundError(f"{captions_file}: no such file with captions")
            return self._read_table(captions_file)
        for name in (f"{split}.csv", f"{split}.jsonl"):
            if (folder / name).is_file():
                return self._read_table(folder / name)
        if (folder / split).is_dir():
            return _FolderReader(folder / split, self.captions, self.follow_links).read(WHOLE_FOLDER, None)
        if split != WHOLE_FOLDER:
            raise ValueError(
                f"{folder}: no split {split!r}; expected {split}.csv, {split}.jsonl or a folder {split} in it. "
                f"Without them the whole folder is the split {WHOLE_FOLDER!r}"
            )
        for name in ("captions.csv", "captions.jsonl"):
            if (folder / name).is_file():
                return self._read_table(folder / name)
        return self._read_texts()

    def _read_table(self, path: Path) -> list[FolderVideo]:
        readers = {".csv": self._read_csv, ".jsonl": self._read_json_lines}
        if path.suffix.lower() not in readers:
            raise ValueError(f"{path}: expected a file that ends with {' or '.join(readers)}")
        moments: dict[tuple[str, float | None, float | None], list[str]] = {}
        for location, file, texts, start, end in readers[path.suffix.lower()](path):
            if start is not None and end is not None and end < start:
                raise ValueError(f"{location}: end={end} s lies before start={start} s")
            if end is not None:
                start = start or 0.0  # a missing start and 0 are the same moment
            moments.setdefault((self._path_inside(file, location), start, end), []).extend(texts)
        if not moments:
            raise ValueError(f"{path}: no captions in it")
        videos = []
        for (file, start, end), texts in moments.items():
            video_id = file if start is None else f"{file}@{_digits(start)}-{'' if end is None else _digits(end)}"
            videos.append(FolderVideo(Row(video_id, tuple(texts), start, end), self.folder / file))
        return videos

    def _read_csv(self, path: Path) -> Iterator[_Line]:
        for location, fields in read_csv(path, ("file", "caption")):
            start, end = (read_seconds(fields.get(name) or None, f"{location}: {name}") for name in ("start", "end"))
            yield location, fields["file"], self.captions.read(fields["caption"], location), start, end

    def _read_json_lines(self, path: Path) -> Iterator[_Line]:
        for location, line in read_lines(path):
            entry = expect(parse_json(line, location), dict, location)
            if "captions" in entry:
                texts = field(entry, "captions", list, location)
            else:
                texts = [field(entry, "caption", str, location)]
            if not texts:
                raise ValueError(f"{location}.captions: expected at least one")
            start, end = (read_seconds(entry.get(name), f"{location}.{name}") for name in ("start", "end"))
            captions = [caption for text in texts for caption in self.captions.read(text, location)]
            yield location, field(entry, "file", str, location), captions, start, end

    def _read_texts(self) -> list[FolderVideo]:
        folder = self.folder
        videos, without = [], []
        for file in walk_files(folder, follow_links=self.follow_links):
            if file.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            text_file = file.with_suffix(".txt")
            if not text_file.is_file():
                without.append(str(file))
                continue
            video_id = self._path_inside(file.relative_to(folder).as_posix(), str(folder))
            self._path_inside(text_file.relative_to(folder).as_posix(), str(folder))
            lines = read_lines(text_file)
            captions = [text for location, line in lines for text in self.captions.read(line, location)]
            if not captions and not self.captions.skip_empty:
                raise ValueError(f"{text_file}: expected a caption a line, found none")
            videos.append(FolderVideo(Row(video_id, tuple(captions)), file))
        if not videos:
            raise ValueError(
                f"{folder}: no captions; expected captions.csv, captions.jsonl, or for each video (found "
                f"{len(without)}) a text file of the same name"
            )
        if without:
            logger.warning(
                "%s: %d videos have no text file beside them: %s", folder, len(without), short_repr(without)
            )
        return videos

    def _path_inside(self, file: str, location: str) -> str:
        """Check that a path lies in the folder, and return it normalised."""
        root, path = self.folder.resolve(), PurePosixPath(file)
        plain = (
            file.isprintable()
            and "\\" not in file
            and path.parts
            and not path.is_absolute()
            and ".." not in path.parts
        )
        if not plain or not (self.follow_links or (root / path).resolve().is_relative_to(root)):
            raise ValueError(f"{location}: {short_repr(file)} isn't the path of a file in {root}")
        return str(path)


def read_seconds(value: Any, location: str) -> float | None:
    """Convert a value of a file or a dataset to seconds; `None` stays `None`.

    Raises:
        ValueError: If the value is not a number, negative or not finite.
    """
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{location}: expected seconds, 0 or more, found {short_repr(value)}")
    return seconds


def _digits(seconds: float) -> str:
    """Format seconds with all digits, because moments may differ in the last one; whole seconds without ".0"."""
    return repr(seconds).removesuffix(".0")
