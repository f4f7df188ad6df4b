"""Small indexes of videos with random embeddings, created without decoding or encoding."""

from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from support.tiny_models import tiny_processor
from ts2net import TS2NetModel
from ts2net.encoding.fingerprint import fingerprint
from ts2net.search import VideoIndex
from ts2net.search.about import About
from ts2net.search.columns import id_from_text, metadata_rows
from ts2net.search.records import IndexedVideo, IndexedWindow
from ts2net.search.store import Store
from ts2net.search.windows import WindowSettings

WIDTH = 32


def about_of(model: TS2NetModel, kept_in: str) -> About:
    settings = {
        "model": kept_in,
        "revision": None,
        "fingerprint": fingerprint(model, tiny_processor(model.config)),
        "dtype": "float32",
        "dim": WIDTH,
        "windows": WindowSettings(4.0, 2.0, 1.0),
        "matching_kind": model.config.matching_kind,
        "temperature": model.config.matching_temperature,
        "padding_mode": "masked",
        "logit_scale": float(model.logit_scale.detach().exp()),
    }
    return About(**settings)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float16)


def random_video(
    name: str, seed: int, windows: int = 5, metadata: dict[str, str] | None = None, spread: float = 1.0
) -> IndexedVideo:
    """Create a video with similar frames and overlapping windows, of which the last is shorter."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=WIDTH)
    rows = []
    for number in range(windows):
        length = 4 if number < windows - 1 else 3
        frames = unit(centre + spread * random.normal(size=(length, WIDTH)))
        start = 2.0 * number
        times = [start + second for second in range(length)]
        rows.append(IndexedWindow(start, start + length, times, frames, f"{name} {number}".encode()))
    return IndexedVideo(name, "signature", 2.0 * windows + 1, metadata or {}, rows)


def make_index(folder: Path, model: TS2NetModel, videos: list[IndexedVideo], kept_in: str = "tiny") -> VideoIndex:
    with Store.write(folder, about_of(model, kept_in)) as store:
        store.add(videos)
    return VideoIndex.open(folder, model=model, processor=tiny_processor(model.config))


def windows_table(index: str | Path) -> Any:
    """Open the table of windows directly, without the package."""
    return lancedb.connect(str(index)).open_table("windows")


def rows_of(index: str | Path) -> list[dict[str, Any]]:
    """Return all windows in order, with the ids and the metadata of their videos as they were given."""
    table = windows_table(index).to_arrow().sort_by("window")
    rows = table.to_pylist()
    return [
        {name: value for name, value in row.items() if not name.startswith("meta_")}
        | {"video": id_from_text(row["video"]), "metadata": metadata}
        for row, metadata in zip(rows, metadata_rows(table), strict=True)
    ]


def clustered_videos(count: int, first: int = 0) -> list[IndexedVideo]:
    seeds = range(first, first + count)
    return [random_video(f"/large/{seed:05d}.mp4", 1000 + seed, windows=20, spread=0.3) for seed in seeds]


def leave_nothing_out(index: str | Path) -> None:
    """Make every score count as better than chance. The scores of a random model seldom are."""
    with Store.write(index) as store:
        store.set_unrelated_scores(["a text"], [-1e9], len(store.snapshot()))
