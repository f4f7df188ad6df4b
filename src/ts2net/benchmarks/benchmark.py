"""The two kinds of benchmark: read from annotation files, or rendered.

Nothing here looks at a video. What a benchmark knows of them is by which names their files go.
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
    """A dataset with its protocol and the lengths that the paper's recipe reads.

    Attributes:
        name: Its name on a command line.
        title: Its name in a table.
        evaluation_split: The split whose recalls are reported.
        num_frames: The most frames of a video.
        max_words: The most tokens of a text, the start and the end token included.
        clock: What a second is, as in [`FrameSampling`]: `"seconds"`, or `"released"`, which published figures use.
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
        """All splits."""

    @property
    @abstractmethod
    def default_splits(self) -> tuple[str, ...]:
        """The splits that are prepared if none is named."""


@dataclass(frozen=True)
class Split:
    """The annotation files of a split.

    Attributes:
        files: Names of the files in the annotations folder, as they are distributed.
        read: Turns their paths, in that order, and a [`CaptionReader`] into rows. A row has no captions if all of them
            were left out.
        num_videos: How many videos the published split has; None if that is not known.
        num_captions: How many captions it has; None if that is not known.
        alternatives: Other names by which a file is distributed, and which `read` can tell apart.
    """

    files: tuple[str, ...]
    read: Callable[..., Iterator[Row]]
    num_videos: int | None = None
    num_captions: int | None = None
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def paths(self, folder: Path, title: str) -> list[Path]:
        """The paths of the files.

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
    """A benchmark that is read from annotation files, whose videos have to be had from elsewhere.

    Attributes:
        splits: By name.
        file_names: The names by which the file of a video id goes, with or without a further extension, the most
            usual one first.
    """

    clock: Literal["seconds", "released"] = "released"
    splits: Mapping[str, Split]
    file_names: Callable[[str], Sequence[str]] = _id_alone

    @property
    def split_names(self) -> tuple[str, ...]:
        """All splits."""
        return tuple(self.splits)

    @property
    def default_splits(self) -> tuple[str, ...]:
        """Those of train, val and test that there are. Others, such as MSR-VTT's train_7k, are made on request."""
        return tuple(split for split in ("train", "val", "test") if split in self.splits)

    def rows(self, annotations: str | Path, split: str, captions: CaptionReader | None = None) -> Iterator[Row]:
        """Read a split, in the order of its files.

        Whether the split and its files exist is checked at once, their content as the rows are drawn.

        Args:
            annotations: The folder with the annotation files.
            split: One of `splits`.
            captions: Checks the captions, and says what becomes of empty ones. None: they are an error.

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
    """Leave out rows that have no caption left; there has to be one row at least."""
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
    """A row of a rendered benchmark, and what makes its video.

    Attributes:
        row: The row.
        render: Makes the bytes of the video file, the same each time. It can be sent to another process.
    """

    row: Row
    render: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class RenderedBenchmark(Benchmark):
    """A benchmark that makes its own videos, from a seed.

    Attributes:
        module: The module of this package that makes it, imported when clips are asked for. It has `SPLITS`, the names
            of the splits; `DEFAULT_COUNTS`, how many clips each has; `DRAWING`, a number that is raised when the
            videos change; and `clips(split, count, seed)`, which gives [`RenderedClip`]s.
    """

    module: str

    @property
    def split_names(self) -> tuple[str, ...]:
        """All splits."""
        return tuple(self._module().SPLITS)

    @property
    def default_splits(self) -> tuple[str, ...]:
        """All splits."""
        return self.split_names

    @property
    def default_counts(self) -> Mapping[str, int]:
        """How many clips each split has."""
        counts: Mapping[str, int] = self._module().DEFAULT_COUNTS
        return counts

    @property
    def drawing(self) -> int:
        """Which version of the videos is made; others were made before."""
        return int(self._module().DRAWING)

    def clips(self, split: str, count: int | None = None, seed: int = 0) -> Sequence[RenderedClip]:
        """The clips of a split.

        Args:
            split: One of the splits.
            count: How many; None is the split's default.
            seed: Another seed gives other clips.

        Raises:
            ValueError: If there is no such split, or not as many clips in it.
        """
        clips: Sequence[RenderedClip] = self._module().clips(split, count, seed)
        return clips

    # Not imported with the package: drawing needs NumPy and PyAV, and reading annotation files needs neither.
    def _module(self) -> Any:
        return importlib.import_module(f".{self.module}", __package__)
