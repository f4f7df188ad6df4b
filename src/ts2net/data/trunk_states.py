"""What the locked lower layers of a vision transformer make of videos, kept on disk and read in place of the videos.

The files are safetensors of a few videos each. A video is found by its content, so a data set that has changed, or
another one, finds what is its own.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import whole_file
from .rows import VideoRow


def video_key(row: VideoRow) -> str:
    """A name for the part of a video that a row shows: equal where file, start and end are.

    A file that is given by its path is known by the path, its size and the time of its last change.

    Raises:
        OSError: If there is no such file.
    """
    video = row.video
    content, path = (video.get("bytes"), video.get("path")) if isinstance(video, dict) else (video, video)
    digest = hashlib.sha256(json.dumps([row.start, row.end]).encode())
    if isinstance(content, bytes):
        digest.update(content)
    else:
        state = os.stat(str(path))
        digest.update(json.dumps([os.path.abspath(str(path)), state.st_size, state.st_mtime_ns]).encode())
    return digest.hexdigest()


class TrunkStates:
    """The hidden states of a data set's videos.

    Args:
        folder: That holds them, or will.

    Raises:
        ValueError: If a file there is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locations: dict[str, tuple[Path, int]] = {}  # by video: its file, and its row there
        self._files: dict[Path, Any] = {}
        for file in sorted(folder.glob("part-*.safetensors")):
            try:
                with safe_open(file, "pt") as part:
                    keys = json.loads(part.metadata()["keys"])
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{file}: damaged or not a part of a trunk cache; delete it") from error
            self._locations |= {key: (file, index) for index, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, key: str) -> bool:
        return key in self._locations

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_files": {}}  # each process opens its own

    def get(self, row: VideoRow) -> dict[str, torch.Tensor] | None:
        """The states of a row's video; None if they are not here.

        Returns:
            `vision_hidden_states` of shape `(T, L, C)` and `padding_mask_videos` of shape `(T,)`.
        """
        try:
            location = self._locations.get(video_key(row))
        except OSError:
            location = None
        if location is None:
            return None
        file, index = location
        part = self._files.get(file)
        if part is None:
            part = self._files[file] = safe_open(file, "pt")
        names = ("vision_hidden_states", "padding_mask_videos")
        return {name: part.get_slice(name)[index] for name in names}

    def write(self, keys: Sequence[str], hidden_states: torch.Tensor, frame_mask: torch.Tensor) -> None:
        """Keep the states of some videos.

        Args:
            keys: Of the videos.
            hidden_states: Of shape `(n, T, L, C)`.
            frame_mask: True for real frames, `(n, T)`.

        Raises:
            OSError: If they can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        with whole_file(self.folder / f"part-{name}.safetensors") as partial:
            tensors = {"vision_hidden_states": hidden_states.contiguous(), "padding_mask_videos": frame_mask}
            save_file(tensors, partial, {"keys": json.dumps(list(keys))})
