"""Finished shards of a split that is prepared again.

While a split is being prepared, a note beside it records the result of each finished shard. Afterwards the manifest
has the same information. A shard is made again if one of its videos was added, was removed or is newer than the shard,
as in `make`, or could not be read for a reason that may be temporary.
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
    """Result of making a shard.

    Attributes:
        shard: The shard; `None` if no file was written because none of its clips can be used.
        missing: Missing clips of the shard; see [`Manifest`].
        broken: Broken clips; see [`Manifest`].
        damaged: Damaged clips; see [`Manifest`].
    """

    shard: Shard | None = None
    missing: list[Remark] = field(default_factory=list)
    broken: list[Remark] = field(default_factory=list)
    damaged: list[Remark] = field(default_factory=list)

    def is_current(self, path: Path, missing: Sequence[str], sources: Sequence[Path]) -> bool:
        """Whether the shard is up to date.

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
    """Notes on an unfinished split, in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder / "settings.json"

    def settings(self) -> dict[str, Any] | None:
        """Return the settings of the finished shards; `None` if no shard was started."""
        return _read_object(self._settings) if self._settings.exists() else None

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Record the settings, before the first shard is made."""
        write_whole(self._settings, to_json(settings), locked=True)

    def write_shard(self, number: int, finished: FinishedShard) -> None:
        """Record a finished shard."""
        note: dict[str, Any] = {"shard": asdict(finished.shard) if finished.shard else None}
        note |= {kind: [remark.to_dict() for remark in getattr(finished, kind)] for kind in _REMARKS}
        write_whole(self._shard(number), to_json(note), locked=True)

    def shards(self, num_shards: int) -> dict[int, FinishedShard]:
        """Return the finished shards, by number."""
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
    """Return the result of each shard, from the manifest.

    Args:
        manifest: Manifest of the finished split.
        file_names: Names of the shards, in order.
        shard_of_clip: Number of the shard of each clip, by the clip's id.
    """
    by_name = {shard.file: shard for shard in manifest.shards}
    finished = [FinishedShard(by_name.get(name)) for name in file_names]
    for kind in _REMARKS:
        for remark in getattr(manifest, kind):
            getattr(finished[shard_of_clip[remark.video_id]], kind).append(remark)
    return finished


def _read_object(path: Path) -> dict[str, Any]:
    # Only this class writes these files, and always as a whole, so their content needs no check.
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
