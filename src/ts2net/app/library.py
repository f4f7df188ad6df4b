"""One index, shared by all visitors of a page.

Notable here: a visitor's request never changes what another one's is working with, for every search reads the latest
commit of the index from beginning to end. One lock keeps model calls apart, another one additions, so that searches go
on while a video is being added.
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

from ..errors import one_line
from ..explanation import Explanation
from ..hub.loading import load_model
from ..search import Hit, VideoIndex, index_videos
from ..search.decoding_workers import ISOLATION
from ..search.store import Store
from .decoding import check_video, clip_inputs
from .explaining import explain_window
from .uploads import UploadError, UploadLimits, check_room, check_upload, copy_whole, kept_path, without_folders

_MOST_LOOKED_THROUGH = 4096  # moments, for some of videos whose names fit


@dataclass(frozen=True)
class Facts:
    """What an index holds, and what it is made with."""

    videos: int
    moments: int
    model: str


@dataclass(frozen=True)
class OpenVideo:
    """The bytes of an indexed video.

    Args:
        name: The video's.
        file: To be closed by whoever asked for it.
        size: Bytes.
    """

    name: str
    file: BinaryIO
    size: int


class Library:
    """An index that several threads search, and add to.

    Args:
        path: The index.
        model: Where its model is now; `None` is where the index says.
        device: Where to compute. `None` is a GPU if there is one.
        uploads: Folder for added videos; `None` takes none.
        limits: Of uploads.

    Raises:
        ValueError: If the model is another one than the index was made with.
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
    ) -> None:
        self.limits = limits
        self.uploads = uploads
        self._path = os.fspath(path)
        ISOLATION.start_server()  # for the first upload, while the model is loaded
        about = Store.open(path).about
        name, revision = (about.model, about.revision) if model is None else (model, None)
        self._model, self._processor = load_model(name, revision=revision, dtype=about.dtype, device=device)
        self._computing = threading.Lock()
        self._adding = threading.Lock()
        self._index = VideoIndex.open(path, model=self._model, processor=self._processor)

    def facts(self) -> Facts:
        """What there is to search."""
        model = self._index.about.model
        shown = os.path.basename(model) if os.path.isabs(model) else model  # visitors needn't know the folders here
        return Facts(len(self._index.videos()), len(self._index), shown)

    def search(self, text: str, count: int, pattern: str | None = None) -> list[Hit]:
        """Find moments for a text, best first.

        Args:
            text: The text.
            count: At most so many.
            pattern: Only of videos whose shown names fit it.
        """
        with self._without_folders(), self._computing:
            return self._of_fitting_videos(partial(self._index.search, text), count, pattern)

    def search_clip(self, upload: str | None, count: int, pattern: str | None = None) -> list[Hit]:
        """Find moments like an uploaded clip, best first.

        Raises:
            UploadError: If it is no video, or more than is taken.
        """
        with self._without_folders(upload):
            clip = check_upload(upload, self.limits)
            inputs = clip_inputs(clip, self._processor.video_processor, self.limits)
            with self._computing:
                return self._of_fitting_videos(partial(self._index.search_inputs, inputs), count, pattern)

    def explain(self, window: str, text: str) -> tuple[str, Explanation]:
        """Say what the model saw in a window, for a text: the video's name, and the explanation.

        Raises:
            ValueError: If there is no such window any more, or its video is gone, has changed or can't be read.
        """
        try:
            found = self._index.window(window)
        except LookupError:
            raise ValueError("This moment is no longer in the index: search again.") from None
        with self._without_folders(found.video_id):
            return explain_window(self._index, window, [text], self._model, self._processor, self._computing)

    def add(self, upload: str | None) -> str:
        """Add an uploaded video to the index.

        Returns:
            What was done, for the visitor.

        Raises:
            UploadError: If it is no video, or more than is taken.
            ValueError: If the index can't be written.
        """
        assert self.uploads is not None
        with self._without_folders(upload):
            video = check_upload(upload, self.limits)
            check_video(video, self._processor.video_processor, self._index.about.windows, self.limits)
            name = Path(video).name
            kept = kept_path(video, self.uploads)
            with self._adding:
                was_there = kept.exists()
                if not was_there:
                    check_room(video, self.uploads, self.limits)
                try:
                    copy_whole(video, kept)
                    report = index_videos([kept], self._model, self._path, processor=self._processor, workers=1)
                    if report.broken:
                        raise UploadError(f"{name} can't be used: {report.broken[0].reason}.")
                except BaseException:
                    # What fails may come after the video was committed, and then visitors find it.
                    if not was_there and not self._holds(kept):
                        kept.unlink(missing_ok=True)
                    raise
        return f"{name} is in the index already." if report.unchanged else f"{name} can be found from now on."

    def open_video(self, window: str) -> OpenVideo:
        """Open the video that a window of the index is of.

        Raises:
            LookupError: If there is no such window.
            OSError: If it is gone or has changed since it was indexed, or can't be read.
        """
        name = self._index.window(window).video_id
        file = self._index.open_video(name)
        return OpenVideo(name, file.open(), file.size)

    def _of_fitting_videos(self, search: Callable[..., list[Hit]], count: int, pattern: str | None) -> list[Hit]:
        """Search among the videos whose shown names fit a pattern.

        The index holds patterns against whole paths, which would tell visitors what the folders are called. So it
        leaves out what can't fit, and what fits for its folders alone is left out here.
        """
        if pattern is None:
            return search(k=count)
        fits = {video for video in self._index.videos() if fnmatchcase(shown_name(video), pattern)}
        k = count
        while fits:
            found = search(k=k, path=f"*{pattern}")  # a shown name is the end of a path
            hits = [hit for hit in found if hit.video_id in fits]
            if len(hits) >= count or len(found) < k or k >= _MOST_LOOKED_THROUGH:
                return hits[:count]
            k *= 4
        return []

    def _holds(self, video: Path) -> bool:
        return os.path.abspath(video) in self._index.videos()

    @contextmanager
    def _without_folders(self, *paths: str | None) -> Iterator[None]:
        """What goes wrong, with the index or with these files, is told without the folders of the server."""
        try:
            yield
        except UploadError:
            raise  # it is for the visitor already
        except (ValueError, OSError) as error:
            known = [path for path in (self._path, self.uploads, *paths) if path is not None]
            raise ValueError(without_folders(one_line(error), *known)) from error


def shown_name(video: str) -> str:
    """What visitors know a video by: its file's name, or what its archive calls it.

    Args:
        video: Its name in the index.
    """
    *archive, member = re.split(r"\.tar#", video, maxsplit=1, flags=re.IGNORECASE)
    name = member if archive else video.replace("\\", "/").rpartition("/")[2]
    return name.encode(errors="backslashreplace").decode()
