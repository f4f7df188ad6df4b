"""Videos for tests of the store, with a few windows of random content."""

import numpy as np

from ts2net.search import WindowSettings
from ts2net.search.about import About
from ts2net.search.records import IndexedVideo, IndexedWindow

ABOUT = About("me/model", "c0ffee", "f" * 64, "float32", 8, WindowSettings(), "weighted", 4.0, "masked", 100.0)


def video(name: str, num_windows: int = 2, signature: str = "1", seed: int = 0, **metadata: str) -> IndexedVideo:
    frames = np.random.default_rng(seed).normal(size=(num_windows, 3, 8))
    frames /= np.linalg.norm(frames, axis=-1, keepdims=True)
    windows = [
        IndexedWindow(6.0 * number, 6.0 * number + 12, [0.0, 1.0, 2.0], unit.astype(np.float16), b"\xff\xd8jpeg")
        for number, unit in enumerate(frames)
    ]
    return IndexedVideo(name, signature, 6.0 * num_windows + 6, metadata, windows)
