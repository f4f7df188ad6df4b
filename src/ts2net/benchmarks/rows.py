"""What every benchmark is made of: rows, the splits they come from, and the recipe's defaults."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One video, or one moment of it, with the sentences that describe it.

    Attributes:
        video_id: the video's name as the annotations have it. It is one plain file name: no folder, no drive.
        captions: at least one, none empty, white space made single. Each of them is a query of its own.
        start: seconds, where the moment begins; the video's start if None.
        end: seconds, where it ends; the video's end if None.
        group: the candidates among which the row is to be found, in a diagnostic split; all of the split if None.
    """

    video_id: str
    captions: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class Split:
    """The files that hold a split, and what turns them into rows.

    Attributes:
        files: names in the annotations folder, as they are distributed.
        read: takes their paths, in that order.
    """

    files: tuple[str, ...]
    read: Callable[..., Iterator[Row]]


@dataclass(frozen=True)
class Benchmark:
    """A data set with its protocol and the defaults of the paper's recipe.

    Attributes:
        name: what it is called on a command line.
        title: what it is called in a table.
        splits: by name.
        evaluation_split: the one whose recalls the paper reports.
        num_frames: the most frames that are read of a video.
        max_words: the most tokens of a text, its start and end tokens included.
        frames_per_second: candidates a second, out of which those frames are taken.
    """

    name: str
    title: str
    splits: Mapping[str, Split]
    evaluation_split: str
    num_frames: int
    max_words: int
    frames_per_second: float = 1.0

    def rows(self, annotations: str | Path, split: str) -> Iterator[Row]:
        """Reads a split, in the order of its files.

        Whether the split and its files exist is checked at once, what is in them as the rows are drawn.

        Args:
            annotations: the folder with the annotation files.
            split: one of `splits`.

        Raises:
            FileNotFoundError: a file of the split is missing.
            ValueError: there is no such split; or a file doesn't hold what it should. The message begins with the
                file and the line, or the entry of a JSON file.
        """
        if split not in self.splits:
            raise ValueError(f"{self.title} has no split {split!r}, only {', '.join(self.splits)}")
        files, read = self.splits[split].files, self.splits[split].read
        paths = [Path(annotations) / file for file in files]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}: no such file; split {split!r} of {self.title} is read from {' and '.join(files)}"
                )
        return read(*paths)
