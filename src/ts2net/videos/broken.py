"""A video that can't be used, as every room speaks of it: data, evaluation, training and search."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BrokenVideo:
    """A video that can't be used.

    Args:
        video_id: Its id in a dataset, or its path in an index.
        reason: Why, in one line.
        signature: Of its file: an index doesn't try the video again until this changes. Empty if another try may
            succeed.
    """

    video_id: str
    reason: str
    signature: str = ""
