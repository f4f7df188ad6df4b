"""The two kinds of benchmark: read from annotation files, or rendered.

A benchmark of annotation files does not open videos; it only defines the possible file names of a video id.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .captions import CaptionReader
from .rows import Row


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A dataset with its protocol, and the lengths of videos and texts in the paper's recipe.

    Attributes:
        name: Name on the command line.
        title: Name in tables.
        evaluation_split: The split whose recalls are reported.
        num_frames: Maximum number of frames of a video.
        max_words: Maximum number of tokens of a text, including the start and the end token.
        clock: Definition of a second, see [`FrameSampling`]: `"seconds"`, or `"released"`, as in published figures.
    """

    name: str
    title: str
    evaluation_split: str
    num_frames: int
    max_words: int
    clock: Literal["seconds", "released"] = "seconds"

    @property
    @abstractmethod
    def split_names(self) -> tuple[str, ...]:
        """Names of all splits."""

    @property
    @abstractmethod
    def default_splits(self) -> tuple[str, ...]:
        """Names of the splits that are prepared by default."""


@dataclass(frozen=True)
class Split:
    """The annotation files of a split.

    Attributes:
        files: Names of the files in the annotations folder, as they are distributed.
        read: Function of the paths, in the order of `files`, and a [`CaptionReader`] that yields rows. A row has no
            captions if all of them were left out.
        num_videos: Number of videos of the published split; `None` if unknown.
        num_captions: Number of captions of the published split; `None` if unknown.
        alternatives: Other names under which a file is distributed. `read` distinguishes their formats.
    """

    files: tuple[str, ...]
    read: Callable[..., Iterator[Row]]
    num_videos: int | None = None
    num_captions: int | None = None
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def paths(self, folder: Path, title: str) -> list[Path]:
        """Return the paths of the files.

        Raises:
            FileNotFoundError: If a file is missing under all of its names.
        """
        paths = []
        for file in self.files:
            names = (file, *self.alternatives.get(file, ()))
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is None:
                needed = " and ".join(" or ".join((name, *self.alternatives.get(name, ()))) for name in self.files)
                raise FileNotFoundError(f"{folder / file}: no such file; {title} is read from {needed}")
            paths.append(path)
        return paths


def _id_alone(video_id: str) -> Sequence[str]:
    return (video_id,)


@dataclass(frozen=True, kw_only=True)
class AnnotatedBenchmark(Benchmark):
    """A benchmark that is read from annotation files. Its videos must be obtained separately.

    Attributes:
        splits: Splits by name.
        file_names: Function that returns the possible names of the file of a video id, the most usual one first. A
            file may have a further extension.
    """

    clock: Literal["seconds", "released"] = "released"
    splits: Mapping[str, Split]
    file_names: Callable[[str], Sequence[str]] = _id_alone

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of all splits."""
        return tuple(self.splits)

    @property
    def default_splits(self) -> tuple[str, ...]:
        """The splits train, val and test if they exist. Others, such as MSR-VTT's train_7k, are made on request."""
        return tuple(split for split in ("train", "val", "test") if split in self.splits)

    def rows(self, annotations: str | Path, split: str, captions: CaptionReader | None = None) -> Iterator[Row]:
        """Read a split, in the order of its files.

        The existence of the split and its files is checked immediately, their content while the rows are read.

        Args:
            annotations: The folder with the annotation files.
            split: One of `splits`.
            captions: Checks the captions, and skips or rejects empty ones. `None` rejects them.

        Raises:
            FileNotFoundError: If a file of the split is missing.
            ValueError: If there is no such split, or a file's content is wrong. The message begins with the file and
                the line, or the entry of a JSON file.
        """
        if split not in self.splits:
            raise ValueError(f"{self.title} has no split {split!r}, only {', '.join(self.splits)}")
        chosen = self.splits[split]
        paths = chosen.paths(Path(annotations), f"split {split!r} of {self.title}")
        captions = captions or CaptionReader()
        return _with_captions(chosen.read(*paths, captions), captions, paths[0])


def _with_captions(rows: Iterator[Row], captions: CaptionReader, path: Path) -> Iterator[Row]:
    """Leave out rows without captions, and check that there is at least one row."""
    is_empty = True
    for row in rows:
        is_empty = False
        if row.captions:
            yield row
        else:
            captions.videos_without.append(row.video_id)
    if is_empty:
        raise ValueError(f"{path}: expected at least one video, found none")


@dataclass(frozen=True)
class RenderedClip:
    """A row of a rendered benchmark, and the function that renders its video.

    Attributes:
        row: The row.
        render: Function that returns the bytes of the video file, the same on each call. It can be pickled.
    """

    row: Row
    render: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class RenderedBenchmark(Benchmark):
    """A benchmark that renders its own videos, from a seed.

    Attributes:
        module: The module of this package that implements the benchmark, imported on first use. It has `SPLITS`, the
            names of the splits; `DEFAULT_COUNTS`, the number of clips of each split; `DRAWING`, a version that is
            raised when the videos change; and `clips(split, count, seed)`, which returns [`RenderedClip`]s.
    """

    module: str

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of all splits."""
        return tuple(self._module().SPLITS)

    @property
    def default_splits(self) -> tuple[str, ...]:
        """Names of all splits."""
        return self.split_names

    @property
    def default_counts(self) -> Mapping[str, int]:
        """Default number of clips of each split."""
        counts: Mapping[str, int] = self._module().DEFAULT_COUNTS
        return counts

    @property
    def drawing(self) -> int:
        """Version of the rendered videos. Videos with another version are outdated."""
        return int(self._module().DRAWING)

    def clips(self, split: str, count: int | None = None, seed: int = 0) -> Sequence[RenderedClip]:
        """Return the clips of a split.

        Args:
            split: Name of the split.
            count: Number of clips; `None` uses the default of the split.
            seed: Seed of the clips.

        Raises:
            ValueError: If there is no such split, or `count` is not possible for it.
        """
        clips: Sequence[RenderedClip] = self._module().clips(split, count, seed)
        return clips

    # Imported lazily, because drawing needs NumPy and PyAV, and reading annotation files needs neither.
    def _module(self) -> Any:
        return importlib.import_module(f".{self.module}", __package__)
