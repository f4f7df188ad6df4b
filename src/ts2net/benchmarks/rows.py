"""The row that every benchmark is made of, and its columns as they are stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLUMN_TYPES: Mapping[str, str | list[str]] = {
    "id": "string",
    "captions": ["string"],
    "start": "float64",
    "end": "float64",
    "group": "string",
}
"""Name and type of each stored column, as Arrow and `datasets` call the types; a list is a list of that type."""


@dataclass(frozen=True)
class Row:
    """One video, or one moment of it, with the sentences that describe it.

    Attributes:
        video_id: The video's name in the annotations: a plain file name, without a folder or a drive.
        captions: At least one. Each is a query of its own, not empty, with single spaces.
        start: Seconds at which the moment begins; None is the start of the video.
        end: Seconds at which it ends; None is the end of the video.
        group: In a diagnostic split, the candidates that the row is ranked among; None is the whole split.
    """

    video_id: str
    captions: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    group: str | None = None

    def to_columns(self) -> dict[str, Any]:
        """The stored columns: the JSON of a clip in a shard, and the columns of a dataset without its video."""
        return {
            "id": self.video_id,
            "captions": list(self.captions),
            "start": self.start,
            "end": self.end,
            "group": self.group,
        }
