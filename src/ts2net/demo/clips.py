"""Clips of the demo: their files, and their pictures for the page."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..benchmarks.moving_things import SEEN_FRAMES, Scene, covered_pixels, render, scenes
from ..data.loading import load_benchmark
from ..files import write_whole

_POSTER_QUALITY = 80


@dataclass(frozen=True)
class Clip:
    """A clip to search.

    Attributes:
        scene: The content of the clip.
        path: The mp4 file of the clip.
        poster: A still picture of the clip, a JPEG.
    """

    scene: Scene
    path: Path
    poster: bytes

    @property
    def video(self) -> bytes:
        """The content of the file."""
        return self.path.read_bytes()


def unpack(data: Path, split: str, folder: Path, count: int) -> list[Clip]:
    """Write the clips of a prepared split to separate files, for players and for command lines.

    Args:
        data: Folder of the prepared splits.
        split: The split.
        folder: The output folder.
        count: Number of clips of the split.
    """
    folder.mkdir(exist_ok=True)
    scene_by_id = {scene.video_id: scene for scene in scenes(split, count)}
    clips = []
    for row in load_benchmark("moving_things", data, split):
        scene = scene_by_id[row["id"]]
        path = folder / f"{scene.video_id}.mp4"
        write_whole(path, row["video"]["bytes"])
        clips.append(Clip(scene, path, _poster(scene)))
    return sorted(clips, key=lambda clip: clip.scene.video_id)


def _poster(scene: Scene) -> bytes:
    """Return as a JPEG the sampled frame that shows most of the small thing, or the second frame if there is none."""
    frame = SEEN_FRAMES[int(covered_pixels(scene)["small"].sum(axis=(1, 2)).argmax()) if scene.small else 1]
    file = io.BytesIO()
    Image.fromarray(render(scene)[frame]).save(file, format="JPEG", quality=_POSTER_QUALITY)
    return file.getvalue()
