"""Row of a benchmark, and the columns in which it is stored."""

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
"""Name and type of each stored column, as Arrow and `datasets` name the types. `["string"]` is a list of strings."""


@dataclass(frozen=True)
class Row:
    """One video, or one moment of it, with the sentences that describe it.

    Attributes:
        video_id: The video's name in the annotations: a plain file name, without a folder or a drive.
        captions: At least one caption. Each is a separate query, not empty, with single spaces.
        start: Start of the moment in seconds; `None` is the start of the video.
        end: End of the moment in seconds; `None` is the end of the video.
        group: Name of the group of candidates that the row is ranked among in a diagnostic split; `None` is the whole
            split.
    """

    video_id: str
    captions: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    group: str | None = None

    def to_columns(self) -> dict[str, Any]:
        """Return the stored columns: the JSON of a clip in a shard, and the columns of a dataset except the video."""
        return {
            "id": self.video_id,
            "captions": list(self.captions),
            "start": self.start,
            "end": self.end,
            "group": self.group,
        }
