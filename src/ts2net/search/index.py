"""Searching an index: a sentence or a clip in, moments of videos out.

Notable here:
- Every score is the model's own matching over all frames of a window, computed from what the index holds, whether the
  windows were all looked at (`exact`) or picked by the vector index.
- A search reads one snapshot from beginning to end, the latest commit when it began. So an index can be searched by
  many at a time, and while it is written.
- Texts and clips are encoded one by one, so that nothing depends on what is asked with them.
"""

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..hub.loading import load_model
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .fingerprint import fingerprint
from .matching import COLUMNS, Matching, ScoredWindow, Top, top_windows
from .moments import merge, windows_for
from .sources import VideoFile, locate
from .store import About, Store, name_from_text, video_key
from .vector_index import candidates, has_vector_index

_WINDOWS_A_BATCH = 1024  # 12 MiB of 12 frames in float16, 24 of them in float32
_CANDIDATES, _CANDIDATES_A_WINDOW = 40, 3


@dataclass(frozen=True)
class Hit:
    """A moment that was found.

    Args:
        video_id: Path of the video; for a member of a tar file that path, `#` and the id of the clip.
        start: Second of the video at which the moment begins.
        end: Second at which it ends.
        second: Where in it the best frame is, in seconds from the start of the video.
        score: The model's similarity, as `TS2NetModel.similarity` gives it.
        metadata: What else is known of the video.
        window: Name of the window in the index.
        thumbnail: A small JPEG.
    """

    video_id: str
    start: float
    end: float
    second: float
    score: float
    metadata: Mapping[str, str]
    window: str
    thumbnail: bytes


@dataclass(frozen=True)
class IndexedMoment:
    """A window of the index, as it was when its video was indexed.

    Args:
        video_id: Path of the video.
        signature: Of its file.
        start: Seconds, as is `end`.
        end: Where it ends.
    """

    video_id: str
    signature: str
    start: float
    end: float


class VideoIndex:
    """An index of videos, to be searched. Use [`VideoIndex.open`]."""

    def __init__(
        self,
        store: Store,
        model: TS2NetModel | str | os.PathLike[str] | None,
        processor: TS2NetProcessor | None,
        device: str | None,
    ) -> None:
        self._store = store
        self._given = model
        self._given_processor = processor
        self._device = device
        self._matching = Matching.of(store.about)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: TS2NetModel | str | os.PathLike[str] | None = None,
        processor: TS2NetProcessor | None = None,
        device: str | None = None,
    ) -> "VideoIndex":
        """Open an index.

        Args:
            path: A folder, or an address that LanceDB takes, such as `s3://bucket/index`.
            model: What encodes texts and clips: a model, or the folder or repository of one. `None` loads the one that
                the index was made with, once it is needed.
            processor: That of a model which is loaded already.
            device: Where to load the model, such as `"cuda:1"`. `None` is a GPU if there is one.

        Raises:
            FileNotFoundError: If there is no index.
            ValueError: If it is of another format, or the model isn't the one that it was made with.
        """
        index = cls(Store.open(path), model, processor, device)
        if isinstance(model, TS2NetModel):
            _ = index._encoder  # to refuse another model at once
        return index

    @property
    def about(self) -> About:
        """What the index was made with."""
        return self._store.about

    def __len__(self) -> int:
        """How many windows there are."""
        return int(self._store.snapshot().count_rows())

    def videos(self) -> list[str]:
        """The names of all videos that are indexed."""
        rows = _all_rows(self._store.snapshot().search().where("number = 0").select(["video"]))
        return sorted(map(name_from_text, rows["video"].to_pylist()))

    def broken(self) -> list[BrokenVideo]:
        """The videos that couldn't be indexed, and why."""
        return self._store.broken()

    def search(
        self,
        texts: str | Sequence[str],
        k: int = 10,
        *,
        exact: bool | None = None,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Any:
        """Find the moments that texts describe.

        Args:
            texts: A text, or several.
            k: How many moments a text at most. There are fewer if the index, or what of it fits, has no more.
            exact: Whether to look at every window, and give the very best. `False` looks only at those that the vector
                index picks. `None` is `False` where there is a vector index, which large indexes have.
            path: Only videos whose name fits this pattern, such as `"*/holidays/*.mp4"`. A star stands for slashes
                too, and a pattern that doesn't begin with one may begin at any folder.
            metadata: Only videos of which just this is known.

        Returns:
            A list of [`Hit`], best first, for a text; a list of such lists for several.

        Raises:
            ValueError: If a text is empty, `k` is less than 1, `exact=False` and there is no vector index, or the
                model can't be loaded or is another than the index was made with.
        """
        several = [texts] if isinstance(texts, str) else list(texts)
        if not several:
            raise ValueError("texts is an empty list: expected at least one text")
        for text in several:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"expected texts with words in them, got {text!r}")
        _check_k(k)
        hits = self.search_embeds(self._encode_texts(several), k, exact=exact, path=path, metadata=metadata)
        return hits[0] if isinstance(texts, str) else hits

    def search_video(
        self,
        video: Any,
        k: int = 10,
        *,
        start: float | None = None,
        end: float | None = None,
        exact: bool | None = None,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Find moments like a clip.

        The clip is encoded as a whole, and the mean of its frame embeddings, each of length 1, is held against the
        index as a text's embedding would be. The model is trained to match texts with videos and not videos with each
        other, so that the scores of the two kinds of search don't compare.

        Args:
            video: A video of any kind that the processor takes.
            k: How many moments at most.
            start: Second of the clip's beginning, if only a part is meant.
            end: Second of its end.
            exact: As in [`VideoIndex.search`], as are `path` and `metadata`.
            path: Pattern of names.
            metadata: What is known of the videos.

        Raises:
            ValueError: If the video can't be decoded, and as in [`VideoIndex.search`].
            OSError: If it can't be opened.
        """
        _check_k(k)
        _, processor = self._encoder
        moment: dict[str, Any] = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
        inputs = processor(videos=[video], clock="seconds", **moment)  # as the windows of an index have it
        return self.search_inputs(inputs, k, exact=exact, path=path, metadata=metadata)

    @torch.inference_mode()
    def search_inputs(
        self,
        inputs: Mapping[str, torch.Tensor],
        k: int = 10,
        *,
        exact: bool | None = None,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Find moments like a clip, as [`VideoIndex.search_video`] does, once the clip is ready for the model.

        Args:
            inputs: `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`, as
                the model's processor makes them.
            k: As in [`VideoIndex.search`], as are the others.
            exact: Whether to look at every window.
            path: Pattern of names.
            metadata: What is known of the videos.

        Raises:
            ValueError: As in [`VideoIndex.search`].
        """
        _check_k(k)
        model, _ = self._encoder
        on_device = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        mask = on_device["padding_mask_videos"][0].bool()
        frames = model.get_video_features(**on_device).pooler_output[0][mask]  # (T, D)
        query = torch.nn.functional.normalize(frames.float(), dim=-1).mean(dim=0, keepdim=True)
        return self.search_embeds(query.cpu().numpy(), k, exact=exact, path=path, metadata=metadata)[0]

    def search_embeds(
        self,
        embeds: np.ndarray | torch.Tensor,
        k: int = 10,
        *,
        exact: bool | None = None,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[list[Hit]]:
        """Find moments for embeddings of the index's own model.

        Args:
            embeds: Of shape `(Q, D)` and any length but 0.
            k: As in [`VideoIndex.search`], as are the others.
            exact: Whether to look at every window.
            path: Pattern of names.
            metadata: What is known of the videos.

        Returns:
            One list of hits a query.

        Raises:
            ValueError: If the embeddings are of another shape or aren't finite, and as in [`VideoIndex.search`].
        """
        _check_k(k)
        queries = self._check_embeds(embeds)
        table = self._store.snapshot()
        where = _where(table, path, metadata)
        count = windows_for(k, self.about.windows)
        top = self._top(table, queries, count, exact, where)
        moments = [merge(windows, k) for windows in top.windows]
        return _hits(table, moments)

    def top(
        self, embeds: np.ndarray | torch.Tensor, count: int, *, exact: bool | None = None, prune: bool = True
    ) -> Top:
        """The best windows themselves, not merged to moments, and how many of them were scored in full.

        Args:
            embeds: As in [`VideoIndex.search_embeds`].
            count: How many windows a query.
            exact: As there.
            prune: Whether an exact search leaves out what can't be among the best; the windows are the same.

        Raises:
            ValueError: As there.
        """
        return self._top(self._store.snapshot(), self._check_embeds(embeds), count, exact, None, prune)

    def window(self, window: str) -> IndexedMoment:
        """Look up a window by its name, as [`Hit`] has it.

        Raises:
            LookupError: If there is none of that name.
        """
        key, _, number = window.partition("-")
        # What isn't a window's name never becomes part of a condition.
        is_name = len(key) == 16 and set(key) <= set("0123456789abcdef") and number.isascii() and number.isdigit()
        rows = []
        if is_name:
            search = self._store.snapshot().search().where(f"window = '{window}'")
            rows = _all_rows(search.select(["video", "signature", "start", "end"])).to_pylist()
        if not rows:
            raise LookupError(f"there is no window {window!r} in {self._store.path}")
        return IndexedMoment(name_from_text(rows[0]["video"]), rows[0]["signature"], rows[0]["start"], rows[0]["end"])

    def open_video(self, name: str) -> VideoFile:
        """Find the file of a video that is indexed, and of no other; its `open()` gives the bytes.

        Raises:
            LookupError: If no such video is indexed.
            FileNotFoundError: If it is gone, or another has taken its place.
        """
        search = self._store.snapshot().search().where(f"number = 0 AND key = '{video_key(name)}'")
        rows = _all_rows(search.select(["video", "signature"])).to_pylist()
        if not rows or name_from_text(rows[0]["video"]) != name:
            raise LookupError(f"{name} is not in {self._store.path}")
        found = locate(name)
        if found is None or found.signature != rows[0]["signature"]:
            raise FileNotFoundError(f"{name} is gone or has changed since it was indexed")
        return found

    def _check_embeds(self, embeds: np.ndarray | torch.Tensor) -> np.ndarray:
        values = embeds.detach().cpu().float().numpy() if isinstance(embeds, torch.Tensor) else np.asarray(embeds)
        if values.ndim != 2 or values.shape[1] != self.about.dim:
            raise ValueError(f"embeds must have shape (queries, {self.about.dim}), got {values.shape}")
        if not np.isfinite(values).all() or not values.any(axis=1).all():
            raise ValueError("embeds must be finite numbers, and not all of a query 0")
        return np.ascontiguousarray(values, dtype=np.float32)

    def _top(
        self, table: Any, queries: np.ndarray, count: int, exact: bool | None, where: str | None, prune: bool = True
    ) -> Top:
        if exact is None or not exact:
            has_index = has_vector_index(table)
            if exact is False and not has_index:
                raise ValueError(
                    f"{self._store.path} has no vector index, which only large indexes have: search it with exact=True"
                )
            exact = not has_index
        if exact:
            search = table.search().select([*COLUMNS]).with_row_id(True)
            if where is not None:
                search = search.where(where)
            batches: Iterator[pa.RecordBatch] = search.limit(None).to_batches(batch_size=_WINDOWS_A_BATCH)
            return top_windows(batches, queries, count, self._matching, prune=prune)
        units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        picked = _CANDIDATES + _CANDIDATES_A_WINDOW * count
        tops = []
        for place, unit in enumerate(units):
            rows = candidates(table, unit, picked, where)
            batches = _take(table, rows, [*COLUMNS]).to_batches()
            tops.append(top_windows(batches, queries[place : place + 1], count, self._matching))
        windows = [top.windows[0] for top in tops]
        return Top(windows, len(queries) * int(table.count_rows()), sum(top.in_full for top in tops))

    @torch.inference_mode()
    def _encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        model, processor = self._encoder
        embeds = [model.get_text_features(**processor(text=text).to(model.device)).pooler_output for text in texts]
        return torch.cat(embeds).float().cpu().numpy()

    @cached_property
    def _encoder(self) -> tuple[TS2NetModel, TS2NetProcessor]:
        """The model that the index was made with, and its processor."""
        about = self.about
        if isinstance(self._given, TS2NetModel):
            if self._given_processor is None:
                raise ValueError("a model that is loaded has to come with its processor")
            model, processor = self._given.eval(), self._given_processor
            name = model.name_or_path or "the given model"
        else:
            name = about.model if self._given is None else os.fspath(self._given)
            revision = about.revision if self._given is None else None
            model, processor = load_model(name, revision=revision, dtype=about.dtype, device=self._device)
        if fingerprint(model, processor) != about.fingerprint:
            at = f" at {about.revision}" if about.revision else ""
            raise ValueError(
                f"{self._store.path} was made with {about.model}{at} in {about.dtype}, and {name} in "
                f"{str(model.dtype).removeprefix('torch.')} is another model or has another processor: search with "
                "that one, or index the videos again"
            )
        return model, processor


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")


def _where(table: Any, path: str | None, metadata: Mapping[str, str] | None) -> str | None:
    """A condition on rows that only those of fitting videos meet."""
    if path is None and not metadata:
        return None
    rows = _all_rows(table.search().where("number = 0").select(["key", "video", "metadata"]))
    keys = []
    for key, video, text in zip(*(rows[name].to_pylist() for name in ("key", "video", "metadata")), strict=True):
        known = json.loads(text) if metadata else {}
        named = path is None or _fits(name_from_text(video), path)
        if named and all(known.get(name) == value for name, value in (metadata or {}).items()):
            keys.append(key)
    if len(keys) == len(rows):
        return None
    return f"key IN ({', '.join(map(repr, keys))})" if keys else "false"


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")


def _all_rows(search: Any) -> pa.Table:
    return search.limit(None).to_arrow()


def _take(table: Any, rows: Sequence[int], columns: list[str]) -> pa.Table:
    """Some rows by their place, in any order: reading goes fastest in the one in which they lie."""
    if not rows:
        return pa.table({name: [] for name in [*columns, "_rowid"]})
    return table.take_row_ids(sorted(rows)).select(columns).with_row_id().to_arrow()


def _hits(table: Any, moments: Sequence[Sequence[ScoredWindow]]) -> list[list[Hit]]:
    """Read what else is to be said of windows."""
    rows = list({window.row for windows in moments for window in windows})
    taken = _take(table, rows, ["window", "frame_times", "metadata", "thumbnail"])
    known = {row["_rowid"]: row for row in taken.to_pylist()}
    return [
        [
            Hit(
                video_id=window.video_id,
                start=window.start,
                end=window.end,
                second=known[window.row]["frame_times"][window.frame],
                score=window.score,
                metadata=json.loads(known[window.row]["metadata"]),
                window=known[window.row]["window"],
                thumbnail=known[window.row]["thumbnail"],
            )
            for window in windows
        ]
        for windows in moments
    ]
