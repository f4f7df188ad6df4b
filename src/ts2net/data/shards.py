"""Shards: WebDataset tar files of clips.

- A clip is two members of a tar file, `<key>.mp4` and `<key>.json`. The key is the clip's id, in which all characters
  except letters, digits, `-`, `_` and `~` are escaped, because WebDataset readers cut a name at its first dot. The id
  itself is in the JSON. A file that was not re-encoded is named `.mp4` too, whatever its container, because all
  readers in this package detect the format from the bytes.
- The shard of a clip depends on the clips' ids and the seed only, and tar members have no time and no owner. So the
  same clips give the same bytes on any machine, also after interruptions.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..benchmarks import Row
from ..files import whole_file

MAX_SHARDS_IN_PARALLEL = 64
FEWEST_CLIPS_PER_SHARD = 8
MOST_CLIPS_PER_SHARD = 1000


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:05d}.tar"


def default_num_shards(num_clips: int) -> int:
    """Return a power of two, which divides the usual batch sizes, with 8 to 1000 clips per shard where possible.

    64 is preferred, because a training run reads at most 64 lanes in parallel.
    """
    shards = MAX_SHARDS_IN_PARALLEL
    while shards > 1 and num_clips < shards * FEWEST_CLIPS_PER_SHARD:
        shards //= 2
    while num_clips > shards * MOST_CLIPS_PER_SHARD:
        shards *= 2
    return shards


def assign_to_shards(names: Sequence[str], num_shards: int, seed: int) -> list[list[int]]:
    """Shuffle clips into shards of similar sizes. Clips with the same name stay together, in their order.

    Clips are sorted by a hash, so the result depends neither on the order of the clips nor on a library's version.

    Args:
        names: For each clip the name of its group, or its id if it has no group.
        num_shards: Number of shards.
        seed: Seed of the hash.

    Returns:
        For each shard, the indices of its clips in `names`.
    """
    order = sorted(range(len(names)), key=lambda index: hashlib.sha256(f"{seed}:{names[index]}".encode()).digest())
    ends = []
    for number in range(num_shards + 1):
        end = math.ceil(len(names) * number / num_shards)
        while 0 < end < len(names) and names[order[end]] == names[order[end - 1]]:
            end += 1
        ends.append(end)
    return [order[start:end] for start, end in itertools.pairwise(ends)]


class ShardWriter:
    """Write a shard under a temporary name, and rename it when it is complete.

    Use it as a context manager. If the block fails, a shard of an earlier run is kept. A shard without clips leaves
    no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.videos = 0
        self.captions = 0
        self._context = contextlib.ExitStack()

    def __enter__(self) -> "ShardWriter":
        with contextlib.ExitStack() as context:  # the split's lock keeps other processes away
            partial = context.enter_context(whole_file(self.path, locked=True))
            # Not PAX, because its extra headers have no use for these members.
            self._tar = context.enter_context(tarfile.open(partial, mode="w", format=tarfile.GNU_FORMAT))
            self._context = context.pop_all()
        return self

    def add(self, row: Row, video: bytes | Path) -> None:
        """Add a clip, with the bytes of its video or the path of a file to copy."""
        key = quote(row.video_id, safe="").replace(".", "%2E")
        if isinstance(video, Path):
            with open(video, "rb") as file:
                self._add(f"{key}.mp4", file, os.fstat(file.fileno()).st_size)
        else:
            self._add(f"{key}.mp4", io.BytesIO(video), len(video))
        text = json.dumps(row.to_columns(), ensure_ascii=False).encode()
        self._add(f"{key}.json", io.BytesIO(text), len(text))
        self.videos += 1
        self.captions += len(row.captions)

    def _add(self, name: str, file: Any, size: int) -> None:
        member = tarfile.TarInfo(name)  # with constant defaults: time 0, owner 0, mode 0644
        member.size = size
        self._tar.addfile(member, file)

    def __exit__(self, *failure: Any) -> None:
        self._context.__exit__(*failure)
        if failure[0] is None and not self.videos:
            self.path.unlink()  # a lane of a training run with only an empty shard would never give a sample
