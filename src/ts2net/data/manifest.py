"""Manifest of a prepared split: the content of its shards, and the clips that are in no shard."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_SPLIT_NAME = re.compile(r"\w+", re.ASCII)
_SHARD_NAME = re.compile(r"\w+-\d{5}\.tar", re.ASCII)
_REMARKS = ("missing", "broken", "damaged", "preferred")


@dataclass(frozen=True)
class Remark:
    """Remark on one clip.

    Attributes:
        video_id: The clip's id.
        reason: The remark, in one line.
        may_pass: Whether the reason may be temporary, such as too little memory, and not a fault of the video.
        captions: The clip's captions, if it is in no shard. They remain queries of an evaluation.
        group: The clip's group, if it is in no shard.
    """

    video_id: str
    reason: str
    may_pass: bool = False
    captions: tuple[str, ...] = ()
    group: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the manifest."""
        fields: dict[str, Any] = {"id": self.video_id, "reason": self.reason, "may_pass": self.may_pass}
        if self.captions:
            fields["captions"] = list(self.captions)
        if self.group is not None:
            fields["group"] = self.group
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Remark":
        """Read the fields in a manifest, which may be untrusted.

        Raises:
            TypeError: If a field is unknown or of another type.
            KeyError: If a field is missing.
        """
        fields = dict(fields)
        remark = cls(fields.pop("id"), captions=tuple(fields.pop("captions", ())), **fields)
        texts = [remark.video_id, remark.reason, *remark.captions, *([] if remark.group is None else [remark.group])]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a remark is made of strings")
        return remark


@dataclass(frozen=True)
class Shard:
    """One tar file of a split: its name, and its number of videos, captions and bytes."""

    file: str
    videos: int
    captions: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Content of a prepared split: the file `<split>.json` beside the shards.

    Attributes:
        benchmark: Name of the benchmark.
        split: Name of the split.
        videos: Clips in all shards.
        captions: Captions in all shards.
        shards: The shards that hold at least one clip.
        missing: Clips that are in no shard because no file was found for them.
        broken: Clips that are in no shard because their file can't be read.
        damaged: Clips that are in the shards as far as their file could be read.
        preferred: Clips for which one of several files was chosen by `--prefer`.
        skipped_captions: Locations of empty captions that `--skip-empty-captions` left out.
        without_captions: Ids of clips that were left out because all their captions are empty.
        settings: The settings that the shards were made with.
    """

    benchmark: str
    split: str
    videos: int
    captions: int
    shards: tuple[Shard, ...]
    missing: tuple[Remark, ...] = ()
    broken: tuple[Remark, ...] = ()
    damaged: tuple[Remark, ...] = ()
    preferred: tuple[Remark, ...] = ()
    skipped_captions: tuple[str, ...] = ()
    without_captions: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_out(self) -> tuple[Remark, ...]:
        """The clips of the split that are in no shard: the missing and the broken clips."""
        return self.missing + self.broken

    @property
    def num_listed(self) -> tuple[int, int]:
        """Number of videos and of captions of the split in the annotations, whether or not they are in the shards."""
        captions = self.captions + sum(len(remark.captions) for remark in self.left_out) + len(self.skipped_captions)
        return self.videos + len(self.left_out) + len(self.without_captions), captions

    @property
    def num_uncounted(self) -> int:
        """Number of clips in no shard without captions in the manifest, which earlier versions did not record."""
        return sum(not remark.captions for remark in self.left_out)

    def to_json(self) -> str:
        """Return the text of the file."""
        fields = asdict(self)
        for kind in _REMARKS:
            fields[kind] = [remark.to_dict() for remark in getattr(self, kind)]
        for name in ("preferred", "skipped_captions", "without_captions"):
            if not fields[name]:  # written only if an option has produced them
                del fields[name]
        return to_json(fields)

    @classmethod
    def from_json(cls, text: str, location: str) -> "Manifest":
        """Parse the text of the file, which may be untrusted.

        Args:
            text: The text.
            location: The file, for messages.

        Raises:
            ValueError: If the text is not a manifest.
        """
        try:
            fields = json.loads(text)
            shards = tuple(Shard(**shard) for shard in fields.pop("shards"))
            for kind in _REMARKS:
                fields[kind] = tuple(Remark.from_dict(remark) for remark in fields.get(kind, ()))
            for name in ("skipped_captions", "without_captions"):
                fields[name] = tuple(fields.get(name, ()))
            manifest = cls(shards=shards, **fields)
            counts_agree = all(
                getattr(manifest, unit) == sum(getattr(shard, unit) for shard in shards)
                for unit in ("videos", "captions")
            )
            names_are_plain = all(_SHARD_NAME.fullmatch(shard.file) for shard in shards)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{location}: not a manifest that `ts2net prepare` wrote") from error
        if not counts_agree or not names_are_plain:
            raise ValueError(f"{location}: its counts disagree, or its shards aren't called <split>-00000.tar, ...")
        return manifest


def manifest_name(split: str) -> str:
    """Return the file name of a split's manifest.

    Raises:
        ValueError: If `split` has characters other than letters, digits and `_`.
    """
    return f"{check_split(split)}.json"


def check_split(split: str) -> str:
    """Check the name of a split and return it.

    Raises:
        ValueError: If it has characters other than letters, digits and `_`, which `datasets` does not accept.
    """
    if not _SPLIT_NAME.fullmatch(split):
        raise ValueError(f"the name of a split has only letters, digits and _, got {split!r}")
    return split


def split_names(files: Sequence[str]) -> list[str]:
    """Return the prepared splits among the file names of a folder: splits with a manifest and at least one shard."""
    manifests = [file.removesuffix(".json") for file in sorted(files) if file.endswith(".json")]
    shards = {file.rpartition("-")[0] for file in files if _SHARD_NAME.fullmatch(file)}
    return [split for split in manifests if split in shards]


def to_json(value: Any) -> str:
    """Format the JSON of a small file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
