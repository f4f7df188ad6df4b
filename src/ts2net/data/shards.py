"""What lies on disk: WebDataset tar files of clips, and a manifest that counts what is in them and what is not.

Notable here:
- A clip is two members of a tar file, `<key>.mp4` and `<key>.json`. The key is the clip's id with everything escaped
  that is not a letter, digit, `-`, `_` or `~`, for readers of WebDataset take a name only up to its first dot. The id
  itself stands in the JSON. A file that was not re-encoded is called `.mp4` too, whatever its container: every reader
  here goes by the bytes.
- Which clip goes into which shard follows from the clips' ids and the seed alone, and a tar member has no time and no
  owner. So the same clips give the same bytes, whoever writes them and however often they were interrupted.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..benchmarks import Row
from ..files import whole_file

MAX_SHARDS_IN_PARALLEL = 64
FEWEST_CLIPS_PER_SHARD = 8
MOST_CLIPS_PER_SHARD = 1000

_SPLIT_NAME = re.compile(r"\w+", re.ASCII)
_SHARD_NAME = re.compile(r"\w+-\d{5}\.tar", re.ASCII)


@dataclass(frozen=True)
class Remark:
    """A clip of which there is something to report, and what.

    Attributes:
        id: the clip's.
        reason: what there is to report, in one line.
        may_pass: whether the reason may be gone another time, such as too little memory, and not lie in the video.
    """

    id: str
    reason: str
    may_pass: bool = False


@dataclass(frozen=True)
class Shard:
    """One tar file of a split: its name, and how many videos, captions and bytes are in it."""

    file: str
    videos: int
    captions: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a prepared split holds. It is the file `<split>.json` beside the shards.

    Attributes:
        benchmark: name of the benchmark.
        split: name of the split.
        videos: clips in all shards.
        captions: captions in all shards.
        shards: those that hold at least one clip.
        missing: clips that are not in the shards because no file was found for them.
        broken: clips that are not in the shards because their file can't be read.
        damaged: clips that are in the shards as far as their file could be read.
        settings: what the shards were made with.
    """

    benchmark: str
    split: str
    videos: int
    captions: int
    shards: tuple[Shard, ...]
    missing: tuple[Remark, ...] = ()
    broken: tuple[Remark, ...] = ()
    damaged: tuple[Remark, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of the file."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, text: str, where: str) -> "Manifest":
        """Reads the text of the file, which may be a stranger's.

        Raises:
            ValueError: it is not a manifest.
        """
        try:
            fields = json.loads(text)
            shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
            for kind in ("missing", "broken", "damaged"):
                fields[kind] = tuple(Remark(**remark) for remark in fields[kind])
            manifest = cls(shards=shards, **fields)
            counts_agree = all(
                getattr(manifest, unit) == sum(getattr(shard, unit) for shard in shards)
                for unit in ("videos", "captions")
            )
            names_are_plain = all(_SHARD_NAME.fullmatch(shard.file) for shard in shards)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{where}: not a manifest that `ts2net prepare` wrote") from error
        if not counts_agree or not names_are_plain:
            raise ValueError(f"{where}: its counts disagree, or its shards aren't called <split>-00000.tar, ...")
        return manifest


def annotation(row: Row) -> dict[str, Any]:
    """What stands in a clip's JSON; the same names as the standard columns have."""
    return {
        "id": row.video_id,
        "captions": list(row.captions),
        "start": row.start,
        "end": row.end,
        "group": row.group,
    }


def manifest_name(split: str) -> str:
    """Name of a split's manifest.

    Raises:
        ValueError: `split` isn't made of letters, digits and `_`.
    """
    return f"{check_split(split)}.json"


def shard_name(split: str, number: int) -> str:
    """Name of a shard."""
    return f"{split}-{number:05d}.tar"


def check_split(split: str) -> str:
    """Returns the name of a split.

    Raises:
        ValueError: it isn't made of letters, digits and `_`, as `datasets` wants it.
    """
    if not _SPLIT_NAME.fullmatch(split):
        raise ValueError(f"the name of a split has only letters, digits and _, got {split!r}")
    return split


def default_num_shards(num_clips: int) -> int:
    """A power of two, so that it divides the usual batches, with 8 to 1000 clips a shard where that can be.

    64 is preferred: so many lanes of a training batch can then be read side by side, and more are of no use.
    """
    shards = MAX_SHARDS_IN_PARALLEL
    while shards > 1 and num_clips < shards * FEWEST_CLIPS_PER_SHARD:
        shards //= 2
    while num_clips > shards * MOST_CLIPS_PER_SHARD:
        shards *= 2
    return shards


def assign_to_shards(ids: Sequence[str], num_shards: int, seed: int) -> list[list[int]]:
    """Shuffles clips into shards whose sizes differ by one at most.

    The order is that of hashes, so it depends neither on the order in which the clips are given nor on the version of
    a library.

    Args:
        ids: the clips.
        num_shards: how many shards.
        seed: another seed gives another order.

    Returns:
        For each shard, the places of its clips in `ids`.
    """
    order = sorted(range(len(ids)), key=lambda place: hashlib.sha256(f"{seed}:{ids[place]}".encode()).digest())
    ends = [math.ceil(len(ids) * number / num_shards) for number in range(num_shards + 1)]
    return [order[start:end] for start, end in itertools.pairwise(ends)]


class ShardWriter:
    """Writes a shard under another name and gives it its own when it is whole.

    Use it as a context manager. When its block fails, what stood there before stays; a shard without clips is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.videos = 0
        self.captions = 0
        self._context = contextlib.ExitStack()

    def __enter__(self) -> "ShardWriter":
        with contextlib.ExitStack() as context:  # the split's lock keeps other processes away
            partial = context.enter_context(whole_file(self.path, locked=True))
            # Not PAX: its extra headers would be all that such plain members need.
            self._tar = context.enter_context(tarfile.open(partial, mode="w", format=tarfile.GNU_FORMAT))
            self._context = context.pop_all()
        return self

    def add(self, row: Row, video: bytes | Path) -> None:
        """Adds a clip; a path stands for the bytes of its file."""
        key = quote(row.video_id, safe="").replace(".", "%2E")
        if isinstance(video, Path):
            with open(video, "rb") as file:
                self._add(f"{key}.mp4", file, os.fstat(file.fileno()).st_size)
        else:
            self._add(f"{key}.mp4", io.BytesIO(video), len(video))
        text = json.dumps(annotation(row), ensure_ascii=False).encode()
        self._add(f"{key}.json", io.BytesIO(text), len(text))
        self.videos += 1
        self.captions += len(row.captions)

    def _add(self, name: str, file: Any, size: int) -> None:
        member = tarfile.TarInfo(name)  # the rest is constant: time 0, owner 0, mode 0644
        member.size = size
        self._tar.addfile(member, file)

    def __exit__(self, *failure: Any) -> None:
        self._context.__exit__(*failure)
        if failure[0] is None and not self.videos:
            self.path.unlink()  # an empty shard would be a lane of a training batch that never gives a clip


def to_json(value: Any) -> str:
    """The JSON of the small files."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
