"""Cache on disk of the hidden states of videos after the locked lower layers, which are read instead of the videos.

Each file is a safetensors file of a few videos. The key of a video depends on its content, so the cache stays valid
when the dataset changes, and several datasets can share it.
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
    """Return a key for the part of a video that a row shows. It is equal if file, start and end are equal.

    A file that is given by its path is identified by the path, its size and the time of its last change.

    Raises:
        OSError: If the file doesn't exist.
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
    """Cached hidden states of videos.

    Args:
        folder: Folder of the cache, which may not exist yet.

    Raises:
        ValueError: If a file in the folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locations: dict[str, tuple[Path, int]] = {}  # by key of the video: file, and row in it
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
        return vars(self) | {"_files": {}}  # each process opens the files itself

    def get(self, row: VideoRow) -> dict[str, torch.Tensor] | None:
        """Read the states of a row's video; `None` if they are not cached.

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
        """Write the states of `n` videos to a new file.

        Args:
            keys: Keys of the videos; see [`video_key`].
            hidden_states: Hidden states of shape `(n, T, L, C)`.
            frame_mask: True for real frames, of shape `(n, T)`.

        Raises:
            OSError: If the file can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        with whole_file(self.folder / f"part-{name}.safetensors") as partial:
            tensors = {"vision_hidden_states": hidden_states.contiguous(), "padding_mask_videos": frame_mask}
            save_file(tensors, partial, {"keys": json.dumps(list(keys))})
