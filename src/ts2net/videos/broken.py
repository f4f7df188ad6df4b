"""Record of a video that can't be used, for data, evaluation, training and search."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BrokenVideo:
    """A video that can't be used.

    Args:
        video_id: Id of the video in a dataset, or its path in an index.
        reason: The reason, in one line.
        signature: Signature of the file. An index doesn't try the video again until the signature changes. Empty if
            a retry may succeed without a change.
    """

    video_id: str
    reason: str
    signature: str = ""
