"""Validation of captions: an empty caption is an error, or is left out and recorded."""

from dataclasses import dataclass, field
from reprlib import repr as short_repr


@dataclass
class CaptionReader:
    """Validate captions of annotation files.

    Attributes:
        skip_empty: Leave out empty captions, and videos that have only empty captions, instead of raising an error.
        skipped: Location of each empty caption that was left out.
        videos_without: Ids of the videos that have only empty captions.
    """

    skip_empty: bool = False
    skipped: list[str] = field(default_factory=list)
    videos_without: list[str] = field(default_factory=list)

    def read(self, value: object, location: str) -> list[str]:
        """Check a caption and collapse its white space to single spaces, as CLIP's tokenizer does.

        Args:
            value: The caption.
            location: File and line, or entry of a JSON file, for messages.

        Returns:
            A list with the caption, or an empty list if the caption is empty and `skip_empty` is set.

        Raises:
            ValueError: If the value is not a string, or is empty and `skip_empty` is not set.
        """
        if not isinstance(value, str):
            raise ValueError(f"{location}: expected a string, found {short_repr(value)}")
        if text := " ".join(value.split()):
            return [text]
        if not self.skip_empty:
            raise ValueError(f"{location}: expected a caption, found {short_repr(value)}")
        self.skipped.append(location)
        return []
