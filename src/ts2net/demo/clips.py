"""The clips of the demo as files, and as the page shows them."""

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
    """A clip that can be found.

    Attributes:
        scene: What it shows.
        path: Its file, an mp4.
        poster: A picture of it, a JPEG.
    """

    scene: Scene
    path: Path
    poster: bytes

    @property
    def video(self) -> bytes:
        """The content of the file."""
        return self.path.read_bytes()


def unpack(data: Path, split: str, folder: Path, count: int) -> list[Clip]:
    """Write the clips of a prepared split to files of their own, to be looked at and named on a command line.

    Args:
        data: Folder of the prepared splits.
        split: The split.
        folder: Where to.
        count: How many clips it has.
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
    """The frame in which the small thing is seen, or the second one."""
    frame = SEEN_FRAMES[int(covered_pixels(scene)["small"].sum(axis=(1, 2)).argmax()) if scene.small else 1]
    file = io.BytesIO()
    Image.fromarray(render(scene)[frame]).save(file, format="JPEG", quality=_POSTER_QUALITY)
    return file.getvalue()
