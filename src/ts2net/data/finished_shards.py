"""What is already done of a split, when it is prepared once more.

Notable here: while a split is being made, a note beside it says what became of each finished shard; once it is made,
its manifest says the same. A shard is made again when one of its videos has turned up, has gone, or is newer than the
shard, as `make` would have it; and when one could not be read for a reason that need not lie in the video.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_whole
from .shards import Manifest, Remark, Shard, to_json


@dataclass
class FinishedShard:
    """What there is to say of a shard.

    Attributes:
        shard: the file; None if there is none, because not one of its clips can be used.
        missing: see `Manifest`, as for the next two.
        broken: clips.
        damaged: clips.
    """

    shard: Shard | None = None
    missing: list[Remark] = field(default_factory=list)
    broken: list[Remark] = field(default_factory=list)
    damaged: list[Remark] = field(default_factory=list)

    def is_current(self, path: Path, missing: Sequence[str], sources: Sequence[Path]) -> bool:
        """Whether it would come out the same.

        Args:
            path: where the file is.
            missing: the clips that are missing now.
            sources: the files of the others.
        """
        if {remark.id for remark in self.missing} != set(missing):
            return False
        if any(remark.may_pass for remark in self.broken):
            return False
        if self.shard is None:
            return not sources
        if not path.is_file() or path.stat().st_size != self.shard.bytes:
            return False
        made = path.stat().st_mtime_ns
        return all(source.stat().st_mtime_ns <= made for source in sources)


class Notes:
    """The notes on an unfinished split, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder / "settings.json"

    def settings(self) -> dict[str, Any] | None:
        """The settings that the shards were made with; None if none was."""
        return _read_object(self._settings) if self._settings.exists() else None

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Notes the settings, before the first shard is made."""
        write_whole(self._settings, to_json(settings), locked=True)

    def write_shard(self, number: int, finished: FinishedShard) -> None:
        """Notes a shard, after it is made."""
        write_whole(self._shard(number), to_json(asdict(finished)), locked=True)

    def shards(self, num_shards: int) -> dict[int, FinishedShard]:
        """The shards that were made, by number."""
        finished = {}
        for number in range(num_shards):
            if self._shard(number).exists():
                note = _read_object(self._shard(number))
                shard = Shard(**note.pop("shard")) if note["shard"] else note.pop("shard")
                remarks = {name: [Remark(**remark) for remark in entries] for name, entries in note.items()}
                finished[number] = FinishedShard(shard, **remarks)
        return finished

    def clear(self) -> None:
        """Forgets all."""
        for path in self.folder.glob("*.json"):
            path.unlink()

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"


def shards_of_manifest(
    manifest: Manifest, file_names: Sequence[str], number_of: dict[str, int]
) -> list[FinishedShard]:
    """What a manifest says of each shard.

    Args:
        manifest: of the finished split.
        file_names: what the shards are called, in order.
        number_of: in which of them a clip belongs.
    """
    by_name = {shard.file: shard for shard in manifest.shards}
    finished = [FinishedShard(by_name.get(name)) for name in file_names]
    for name in ("missing", "broken", "damaged"):
        for remark in getattr(manifest, name):
            getattr(finished[number_of[remark.id]], name).append(remark)
    return finished


def _read_object(path: Path) -> dict[str, Any]:
    # `write_whole` never leaves a file half-written, and nobody else writes these.
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
