"""One index, shared by all visitors of a page.

Each search reads one commit of the index, so requests don't affect each other. One lock serialises model calls,
another lock serialises additions and removals, so searches continue while a video is added.
"""

import math
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ..encoding.runtimes import Precision, RuntimeName, load_on_runtime
from ..errors import one_line
from ..explanation import Explanation
from ..search import Hit, SearchOptions, VideoIndex, index_videos
from ..search.calibration import example_texts
from ..search.decoding_workers import ISOLATION
from ..search.records import WindowDetails
from ..search.store import Store
from ..search.subtitle_files import subtitle_ending
from .catalogue import Catalogue, ListedVideo
from .decoding import check_video, clip_inputs
from .explaining import explain_window
from .query import Query
from .uploads import UploadError, UploadLimits, check_room, check_upload, copy_whole, kept_path, without_folders

_EXAMPLES = 3
_MOMENTS_OF_A_VIDEO = 3  # maximum in a result, unless only one video is searched
_REMEMBERED_CLIPS = 1024
_LONGEST_WINDOW = 64  # characters of a window's name


@dataclass(frozen=True)
class Facts:
    """Size and model of an index."""

    videos: int
    moments: int
    model: str


@dataclass(frozen=True)
class OpenVideo:
    """An indexed video, opened for reading.

    Args:
        name: Name of the video in the index.
        file: The open file; the caller closes it.
        size: Size in bytes.
    """

    name: str
    file: BinaryIO
    size: int


@dataclass(frozen=True)
class Clip:
    """An uploaded clip as a query.

    Args:
        name: Name of the file.
        embeds: Query embedding, `(1, D)`.
    """

    name: str
    embeds: torch.Tensor


class Library:
    """An index that several threads can search and change.

    Args:
        path: The index.
        model: Folder or repository of the index's model; `None` uses the location stored in the index.
        device: Device of the model. `None` uses a GPU if there is one.
        uploads: Folder for added videos; `None` accepts no videos.
        limits: Limits of uploads.
        runtime: Runtime of the model, as in [`index_videos`]. The precision is always that of the index.

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
        ISOLATION.start_server()  # start now, to be ready for the first upload
        self._store = Store.open(path)
        about = self._store.about
        name, revision = (about.model, about.revision) if model is None else (model, None)
        precision: Precision | None = "int8" if about.precision == "int8" else None
        self._model, self._processor = load_on_runtime(
            name, runtime=runtime, precision=precision, revision=revision, dtype=about.dtype, device=device
        )
        self._computing = threading.Lock()
        self._adding = threading.Lock()
        self._index = VideoIndex.open(path, model=self._model, processor=self._processor)
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._listed: tuple[object, Catalogue] | None = None

    def facts(self) -> Facts:
        """Return the size and the model of the index."""
        model = self._index.about.model
        shown = os.path.basename(model) if os.path.isabs(model) else model  # without the folders of the server
        return Facts(len(self.catalogue().videos), len(self._index), shown)

    def examples(self) -> list[str]:
        """Return three example texts that are likely to have results."""
        with self._without_folders():
            return example_texts(self._store, _EXAMPLES)

    def catalogue(self) -> Catalogue:
        """Return the videos as visitors see them. The catalogue is cached until the index changes."""
        with self._without_folders():
            snapshot = self._store.snapshot()
            listed = self._listed
            if listed is None or listed[0] != snapshot.version:
                listed = self._listed = (snapshot.version, Catalogue(snapshot.videos(), self.uploads))
            return listed[1]

    def covers(self, videos: Sequence[ListedVideo]) -> list[tuple[ListedVideo, WindowDetails]]:
        """Return each video with its first window, for a list with pictures."""
        with self._without_folders():
            windows = self._store.snapshot().covers([video.video_id for video in videos])
        return [(video, windows[video.video_id]) for video in videos if video.video_id in windows]

    def search(self, query: Query) -> list[Hit]:
        """Find moments for a text or a clip of [`remember_clip`], best first.

        Raises:
            ValueError: If the query has neither a text nor a clip, or its clip is no longer stored.
            OSError: If the index can't be read.
        """
        embeds: np.ndarray | torch.Tensor | None = None
        if query.clip:
            embeds = self.clip(query.clip).embeds
        elif not query.text:
            raise ValueError("Type what to look for.")
        elif query.search_in != "speech":
            with self._computing:
                embeds = self._index.encode_texts([query.text])
        videos = None
        if query.filter:
            videos = [video.video_id for video in self.catalogue().matching(query.filter)]
            if not videos:
                return []
        options = SearchOptions(
            k=query.count,
            videos=videos,
            per_video=None if videos is not None and len(videos) == 1 else _MOMENTS_OF_A_VIDEO,
            fold=True,
            min_score=-math.inf if query.everything else None,
            search_in=None if query.clip else query.search_in,
        )
        with self._without_folders():
            if query.clip and embeds is not None:
                return self._index.search_embeds(embeds, options)[0]
            return self._index.search_text_embeds(embeds, options, [query.text])[0]

    def remember_clip(self, upload: str | None) -> str:
        """Encode an uploaded clip and store it as a query.

        Returns:
            The name of the clip for a [`Query`]. The last 1,024 clips are kept in memory.

        Raises:
            UploadError: If the upload is no video, or exceeds a limit.
        """
        with self._without_folders(upload):
            file = check_upload(upload, self.limits)
            inputs = clip_inputs(file, self._processor.video_processor, self.limits)
            with self._computing:
                embeds = self._index.encode_inputs(inputs)
        name = secrets.token_urlsafe(12)
        self._clips[name] = Clip(Path(file).name, embeds)
        while len(self._clips) > _REMEMBERED_CLIPS:
            self._clips.popitem(last=False)
        return name

    def clip(self, name: str) -> Clip:
        """Return a clip that [`remember_clip`] stored.

        Raises:
            ValueError: If the clip is no longer stored.
        """
        clip = self._clips.get(name)
        if clip is None:
            raise ValueError("The server no longer has this clip: upload it again.")
        return clip

    def explain(self, window: str, query: Query) -> tuple[str, Explanation]:
        """Explain the score of a window for a text or a clip. Returns the video's name and the explanation.

        Raises:
            ValueError: If the window is no longer in the index, or its video can't be decoded.
            OSError: If its video is missing or has changed, or the index can't be read.
        """
        if not (query.text or query.clip):
            raise ValueError("Type what to look for.")
        try:
            video_id = self._index.window(window[: _LONGEST_WINDOW + 1]).video_id
        except LookupError:
            raise ValueError("This moment is no longer in the index: search again.") from None
        clip = self.clip(query.clip) if query.clip else None
        texts = [query.text if clip is None else clip.name]
        embeds = None if clip is None else clip.embeds
        with self._without_folders(video_id):
            _, explanation = explain_window(
                self._index, window, texts, self._model, self._processor, self._computing, query_embeds=embeds
            )
        return self.catalogue().name(video_id), explanation

    def add(self, upload: str | None, subtitles: Sequence[str] = ()) -> str:
        """Add an uploaded video to the index, under its own name, with the subtitles uploaded together with it.

        Returns:
            A message for the visitor.

        Raises:
            UploadError: If the upload is no video, or exceeds a limit.
            OSError: If the index can't be written.
        """
        assert self.uploads is not None
        with self._without_folders(upload):
            video = check_upload(upload, self.limits)
            check_video(video, self._processor.video_processor, self._index.about.windows, self.limits)
            name = Path(video).name
            with self._adding:
                kept = kept_path(video, self.uploads)
                existed = kept.exists()
                new = [check_upload(file, self.limits) for file in subtitles] + ([] if existed else [video])
                check_room(new, self.uploads, self.limits)
                try:
                    for file in new:
                        ending = subtitle_ending(Path(file).name, Path(video).stem)
                        copy_whole(file, kept if ending is None else kept.with_name(kept.stem + ending))
                    report = index_videos([kept], self._model, self._path, processor=self._processor, workers=1)
                    if report.broken:
                        raise UploadError(f"{name} can't be used: {report.broken[0].reason}.")
                except BaseException:
                    # Keep the file if the video was committed before the error, because searches find it.
                    if not existed and not self._holds(kept):
                        self._delete(kept)
                    raise
        message = f"{name} is in the index already." if report.unchanged else f"{name} can be found from now on."
        if report.spoken:
            message += " So can what is said in it, by its subtitles."
        unread = (f" {Path(file).name}: {reason}." for file, reason in report.damaged_subtitles.items())
        return message + "".join(unread)

    def added(self) -> list[tuple[ListedVideo, WindowDetails]]:
        """Return the videos that visitors added."""
        return self.covers([video for video in self.catalogue().videos if video.added])

    def remove(self, window: str) -> str:
        """Remove a video that a visitor added from the index, and delete its file.

        Args:
            window: Name of any window of the video.

        Returns:
            A message for the visitor.

        Raises:
            ValueError: If there is no such added video.
            OSError: If the index can't be written.
        """
        with self._adding, self._without_folders():
            try:
                video_id = self._index.window(window[: _LONGEST_WINDOW + 1]).video_id
            except LookupError:
                video_id = None
            video = next((one for one in self.catalogue().videos if one.video_id == video_id and one.added), None)
            if video is None:
                raise ValueError("There is no such added video any more.")
            with Store.write(self._path) as store:
                store.drop([video.video_id])
            self._delete(Path(video.video_id))
        return f"{video.name} is removed."

    def open_video(self, window: str) -> OpenVideo:
        """Open the video of a window.

        Raises:
            LookupError: If there is no such window.
            OSError: If the video is missing, has changed since it was indexed, or can't be read.
        """
        name = self._index.window(window).video_id
        file = self._index.open_video(name)
        return OpenVideo(name, file.open(), file.size)

    def _holds(self, video: Path) -> bool:
        return os.path.abspath(video) in self._index.videos()

    def _delete(self, kept: Path) -> None:
        """Delete an added video, its subtitles, and then its folder if the folder is empty."""
        kept.unlink(missing_ok=True)
        for file in list(kept.parent.iterdir()) if kept.parent.is_dir() else []:
            if subtitle_ending(file.name, kept.stem) is not None:
                file.unlink()
        if kept.parent != self.uploads and kept.parent.is_dir() and not any(kept.parent.iterdir()):
            kept.parent.rmdir()

    @contextmanager
    def _without_folders(self, *paths: str | None) -> Iterator[None]:
        """Context that removes the folders of the server from error messages."""
        try:
            yield
        except UploadError:
            raise  # the message is for visitors already
        except (ValueError, OSError) as error:
            secret = [path for path in (self._path, self.uploads, *paths) if path is not None]
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(without_folders(one_line(error), *secret)) from error
