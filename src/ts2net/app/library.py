"""One index, shared by all visitors of a page.

Each search reads one commit of the index, so requests don't affect each other. One lock serialises model calls,
another one additions: searches continue while a video is added.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..encoding.runtimes import Precision, RuntimeName, load_on_runtime
from ..errors import one_line
from ..explanation import Explanation
from ..search import Hit, VideoIndex, index_videos
from ..search.decoding_workers import ISOLATION
from ..search.store import Store
from .decoding import check_video, clip_inputs
from .explaining import explain_window
from .uploads import UploadError, UploadLimits, check_room, check_upload, copy_whole, kept_path, without_folders

_MAX_CANDIDATES = 4096  # moments that are searched for those of videos whose names match


@dataclass(frozen=True)
class Facts:
    """The size of an index, and its model."""

    videos: int
    moments: int
    model: str


@dataclass(frozen=True)
class OpenVideo:
    """The bytes of an indexed video.

    Args:
        name: Name of the video in the index.
        file: The open file; the caller closes it.
        size: Its bytes.
    """

    name: str
    file: BinaryIO
    size: int


class Library:
    """An index that several threads search and add to.

    Args:
        path: The index.
        model: Folder or repository of its model; `None` takes the one that the index names.
        device: Device of the model. `None` is a GPU if there is one.
        uploads: Folder for added videos; `None` accepts none.
        limits: Limits of uploads.
        runtime: What computes, as in [`index_videos`]. The precision is the index's.

    Raises:
        ValueError: If the index was made with another model.
        OSError: If there is no index or no model.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | None,
        device: str | None,
        uploads: Path | None,
        limits: UploadLimits,
        runtime: RuntimeName | None = None,
    ) -> None:
        self.limits = limits
        self.uploads = uploads
        self._path = os.fspath(path)
        ISOLATION.start_server()  # so that it is ready for the first upload
        about = Store.open(path).about
        name, revision = (about.model, about.revision) if model is None else (model, None)
        precision: Precision | None = "int8" if about.precision == "int8" else None
        self._model, self._processor = load_on_runtime(
            name, runtime=runtime, precision=precision, revision=revision, dtype=about.dtype, device=device
        )
        self._computing = threading.Lock()
        self._adding = threading.Lock()
        self._index = VideoIndex.open(path, model=self._model, processor=self._processor)

    def facts(self) -> Facts:
        """The size of the index, and its model."""
        model = self._index.about.model
        shown = os.path.basename(model) if os.path.isabs(model) else model  # without the folders of the server
        return Facts(len(self._index.videos()), len(self._index), shown)

    def search(self, text: str, count: int, pattern: str | None = None) -> list[Hit]:
        """Find moments for a text, best first.

        Args:
            text: The text.
            count: The most moments.
            pattern: Only search videos whose shown names match it.
        """
        with self._without_folders(), self._computing:
            return self._in_matching_videos(partial(self._index.search, text), count, pattern)

    def search_clip(self, upload: str | None, count: int, pattern: str | None = None) -> list[Hit]:
        """Find moments that are similar to an uploaded clip, best first.

        Raises:
            UploadError: If it is no video, or exceeds a limit.
        """
        with self._without_folders(upload):
            clip = check_upload(upload, self.limits)
            inputs = clip_inputs(clip, self._processor.video_processor, self.limits)
            with self._computing:
                return self._in_matching_videos(partial(self._index.search_inputs, inputs), count, pattern)

    def explain(self, window: str, text: str) -> tuple[str, Explanation]:
        """Explain the score of a window for a text. Returns the video's name and the explanation.

        Raises:
            ValueError: If the window is no longer in the index, or its video is missing, has changed or can't be read.
        """
        try:
            video_id = self._index.window(window).video_id
        except LookupError:
            raise ValueError("This moment is no longer in the index: search again.") from None
        with self._without_folders(video_id):
            return explain_window(self._index, window, [text], self._model, self._processor, self._computing)

    def add(self, upload: str | None) -> str:
        """Add an uploaded video to the index.

        Returns:
            A message for the visitor.

        Raises:
            UploadError: If it is no video, or exceeds a limit.
            ValueError: If the index can't be written.
        """
        assert self.uploads is not None
        with self._without_folders(upload):
            video = check_upload(upload, self.limits)
            check_video(video, self._processor.video_processor, self._index.about.windows, self.limits)
            name = Path(video).name
            kept = kept_path(video, self.uploads)
            with self._adding:
                existed = kept.exists()
                if not existed:
                    check_room(video, self.uploads, self.limits)
                try:
                    copy_whole(video, kept)
                    report = index_videos([kept], self._model, self._path, processor=self._processor, workers=1)
                    if report.broken:
                        raise UploadError(f"{name} can't be used: {report.broken[0].reason}.")
                except BaseException:
                    # Keep a video that was committed before the error: searches find it.
                    if not existed and not self._holds(kept):
                        kept.unlink(missing_ok=True)
                    raise
        return f"{name} is in the index already." if report.unchanged else f"{name} can be found from now on."

    def open_video(self, window: str) -> OpenVideo:
        """Open the video of a window.

        Raises:
            LookupError: If there is no such window.
            OSError: If the video is missing, has changed since it was indexed, or can't be read.
        """
        name = self._index.window(window).video_id
        file = self._index.open_video(name)
        return OpenVideo(name, file.open(), file.size)

    def _in_matching_videos(self, search: Callable[..., list[Hit]], count: int, pattern: str | None) -> list[Hit]:
        """Search the videos whose shown names match a pattern.

        The index matches whole paths, which would reveal the names of folders. So the index filters roughly, and
        videos of which only the folders match are removed here.
        """
        if pattern is None:
            return search(k=count)
        matching = {video for video in self._index.videos() if fnmatchcase(shown_name(video), pattern)}
        k = count
        while matching:
            candidates = search(k=k, path=f"*{pattern}")  # a shown name is the end of a path
            hits = [hit for hit in candidates if hit.video_id in matching]
            if len(hits) >= count or len(candidates) < k or k >= _MAX_CANDIDATES:
                return hits[:count]
            k *= 4
        return []

    def _holds(self, video: Path) -> bool:
        return os.path.abspath(video) in self._index.videos()

    @contextmanager
    def _without_folders(self, *paths: str | None) -> Iterator[None]:
        """Remove the folders of the server from the message of an error."""
        try:
            yield
        except UploadError:
            raise  # its message is for the visitor
        except (ValueError, OSError) as error:
            secret = [path for path in (self._path, self.uploads, *paths) if path is not None]
            raise ValueError(without_folders(one_line(error), *secret)) from error


def shown_name(video: str) -> str:
    """The name of a video for visitors: that of its file, or of its member in an archive.

    Args:
        video: Name of the video in the index.
    """
    *archive, member = re.split(r"\.tar#", video, maxsplit=1, flags=re.IGNORECASE)
    name = member if archive else video.replace("\\", "/").rpartition("/")[2]
    return name.encode(errors="backslashreplace").decode()
