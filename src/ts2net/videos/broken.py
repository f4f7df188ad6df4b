"""Record of a video that can't be used, shared by data, evaluation, training and search."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BrokenVideo:
    """A video that can't be used.

    Args:
        video_id: Its id in a dataset, or its path in an index.
        reason: The reason, in one line.
        signature: Signature of its file. An index doesn't try the video again until the signature changes. Empty if
            another try may succeed.
    """

    video_id: str
    reason: str
    signature: str = ""
