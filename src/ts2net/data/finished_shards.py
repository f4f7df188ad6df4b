"""What is already done of a split when it is prepared once more.

While a split is being made, a note beside it records the outcome of each finished shard; once it is made, its manifest
has the same. A shard is made again if one of its videos has turned up, has gone, or is newer than the shard, as `make`
does; and if one could not be read for a reason that need not lie in the video.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_whole
from .manifest import Manifest, Remark, Shard, to_json

_REMARKS = ("missing", "broken", "damaged")


@dataclass
class FinishedShard:
    """The outcome of a shard.

    Attributes:
        shard: The file; None if there is none, because none of its clips can be used.
        missing: Clips, as in [`Manifest`]; so are the next two.
        broken: Clips.
        damaged: Clips.
    """

    shard: Shard | None = None
    missing: list[Remark] = field(default_factory=list)
    broken: list[Remark] = field(default_factory=list)
    damaged: list[Remark] = field(default_factory=list)

    def is_current(self, path: Path, missing: Sequence[str], sources: Sequence[Path]) -> bool:
        """Whether the shard would come out the same.

        Args:
            path: The shard's file.
            missing: Ids of the clips that are missing now.
            sources: Video files of the other clips.
        """
        if {remark.video_id for remark in self.missing} != set(missing):
            return False
        if any(remark.may_pass for remark in self.broken):
            return False
        if self.shard is None:
            return not sources
        if not path.is_file() or path.stat().st_size != self.shard.bytes:
            return False
        shard_mtime_ns = path.stat().st_mtime_ns
        return all(source.stat().st_mtime_ns <= shard_mtime_ns for source in sources)


class Notes:
    """The notes on an unfinished split, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder / "settings.json"

    def settings(self) -> dict[str, Any] | None:
        """The settings that the shards were made with; None before the first."""
        return _read_object(self._settings) if self._settings.exists() else None

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Note the settings, before the first shard is made."""
        write_whole(self._settings, to_json(settings), locked=True)

    def write_shard(self, number: int, finished: FinishedShard) -> None:
        """Note a shard, after it is made."""
        note: dict[str, Any] = {"shard": asdict(finished.shard) if finished.shard else None}
        note |= {kind: [remark.to_dict() for remark in getattr(finished, kind)] for kind in _REMARKS}
        write_whole(self._shard(number), to_json(note), locked=True)

    def shards(self, num_shards: int) -> dict[int, FinishedShard]:
        """The shards that were made, by number."""
        finished = {}
        for number in range(num_shards):
            if self._shard(number).exists():
                note = _read_object(self._shard(number))
                shard = Shard(**note["shard"]) if note["shard"] else None
                remarks = {kind: [Remark.from_dict(remark) for remark in note[kind]] for kind in _REMARKS}
                finished[number] = FinishedShard(shard, **remarks)
        return finished

    def clear(self) -> None:
        """Remove all notes."""
        for path in self.folder.glob("*.json"):
            path.unlink()

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"


def shards_of_manifest(
    manifest: Manifest, file_names: Sequence[str], shard_of_clip: dict[str, int]
) -> list[FinishedShard]:
    """The outcome of each shard, from the manifest.

    Args:
        manifest: Of the finished split.
        file_names: The shards' names, in order.
        shard_of_clip: Number of the shard that a clip belongs in.
    """
    by_name = {shard.file: shard for shard in manifest.shards}
    finished = [FinishedShard(by_name.get(name)) for name in file_names]
    for kind in _REMARKS:
        for remark in getattr(manifest, kind):
            getattr(finished[shard_of_clip[remark.video_id]], kind).append(remark)
    return finished


def _read_object(path: Path) -> dict[str, Any]:
    # Nobody else writes these files, and none of them is ever half-written.
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
