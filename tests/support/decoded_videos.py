"""Check of the result of decoding a whole file."""

import warnings
from pathlib import Path

import numpy as np

from support.video_files import decode_from_start
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.videos.reencoding import reencode_video

EVERY_FRAME = FrameSampling(num_frames=None, fps=None)


def assert_every_frame(path: Path, count: int) -> None:
    """Check that all frames equal those of a plain loop, and that re-encoding works, both without reporting damage."""
    reference = decode_from_start(str(path))
    assert len(reference) == count
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video = decode_video(path, EVERY_FRAME)
    assert len(video.frames) == count
    for frame, expected in zip(video.frames, reference, strict=True):
        np.testing.assert_array_equal(frame.numpy(), expected.to_ndarray(format="rgb24"))
    assert reencode_video(path).damage is None
