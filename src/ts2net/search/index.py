"""Searching an index: a sentence or a clip in, moments of videos out.

Notable here:
- Every score is the model's own matching over all frames of a window, computed from what the index holds, whether all
  windows are scored (`exact`) or those that the vector index picks.
- A search reads one snapshot from beginning to end, the latest commit when it began. So many can search an index at
  once, and while it is written.
- Texts and clips are encoded one by one, so that no result depends on the other queries of a call.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..encoding.text_tower import TextTower
from ..parallel.read_ahead import read_ahead
from ..videos.broken import BrokenVideo
from .about import About
from .calibration import Calibration, read_calibration
from .fusing import FoundWindow, fuse_windows
from .hits import Hit, Hits, Place
from .matching import Matching, ScoredWindow, Top, top_windows
from .moments import COPY_COSINE, Moment, choose, windows_for
from .options import SearchKeywords, SearchOptions
from .records import IndexedMoment, WindowDetails
from .snapshot import Condition, Snapshot
from .sources import VideoFile, locate
from .store import Store
from .word_matching import matching_of

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from ..modeling_ts2net import TS2NetModel
    from ..processing_ts2net import TS2NetProcessor

_CANDIDATES, _CANDIDATES_A_WINDOW = 40, 3
_BATCHES_AHEAD = 4
_MOST_WINDOWS = 4096  # that are looked at for one query


class VideoIndex:
    """An index of videos, to be searched. Use [`VideoIndex.open`].

    Every search takes [`SearchOptions`], as they are or as keywords: `index.search("a dog", k=5, path="*/2024/*")`.
    """

    def __init__(
        self,
        store: Store,
        model: "TS2NetModel | str | os.PathLike[str] | None",
        processor: "TS2NetProcessor | None",
        device: str | None,
    ) -> None:
        self._store = store
        self._model = model
        self._processor = processor
        self._device = device

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: "TS2NetModel | str | os.PathLike[str] | None" = None,
        processor: "TS2NetProcessor | None" = None,
        device: str | None = None,
    ) -> "VideoIndex":
        """Open an index.

        Args:
            path: A folder, or an address that LanceDB takes, such as `s3://bucket/index`.
            model: What encodes texts and clips: a model, or the folder or repository of one. `None` loads the one that
                the index was made with, once it is needed.
            processor: The processor of a loaded model.
            device: Where to load the model, such as `"cuda:1"`. `None` is a GPU if there is one.

        Raises:
            FileNotFoundError: If there is no index.
            ValueError: If it is of another format, or was made with another model.
        """
        index = cls(Store.open(path), model, processor, device)
        if model is not None and not isinstance(model, (str, os.PathLike)):
            _ = index._encoder  # to refuse another model at once
        return index

    @property
    def path(self) -> str:
        """Where the index is."""
        return self._store.path

    @property
    def about(self) -> About:
        """What the index was made with."""
        return self._store.about

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._store.snapshot())

    def __repr__(self) -> str:
        """Location and model; counting windows would read the index."""
        return f"VideoIndex({self.path!r}, model={self.about.model!r})"

    def _repr_html_(self) -> str:
        """For notebooks: what the index holds."""
        snapshot = self._store.snapshot()
        facts = {
            "index": self.path,
            "model": self.about.model,
            "videos": f"{len(snapshot.video_ids()):,}",
            "windows": f"{len(snapshot):,}, of {self.about.windows}",
            "metadata": ", ".join(snapshot.metadata_names()) or "none",
        }
        rows = (f"<tr><th>{name}</th><td>{escape(_printable(fact))}</td></tr>" for name, fact in facts.items())
        return f"<table>{''.join(rows)}</table>"

    def videos(self) -> list[str]:
        """The ids of all indexed videos."""
        return self._store.snapshot().video_ids()

    def broken(self) -> list[BrokenVideo]:
        """The videos that couldn't be indexed, with reasons."""
        return self._store.broken()

    @overload  # a str is a sequence of str too, but type checkers take the first that matches
    def search(  # type: ignore[overload-overlap]
        self, texts: str, options: SearchOptions | None = None, **keywords: "Unpack[SearchKeywords]"
    ) -> list[Hit]: ...

    @overload
    def search(
        self, texts: Sequence[str], options: SearchOptions | None = None, **keywords: "Unpack[SearchKeywords]"
    ) -> list[list[Hit]]: ...

    def search(
        self,
        texts: str | Sequence[str],
        options: SearchOptions | None = None,
        **keywords: "Unpack[SearchKeywords]",
    ) -> list[Hit] | list[list[Hit]]:
        """Find the moments that texts describe, or in which all of their words are spoken, by the videos' subtitles.

        Args:
            texts: A text, or several.
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Returns:
            For a text its hits, best first; for several a list with the hits of each.

        Raises:
            ValueError: If a text is empty, an option is out of range, no video has metadata of a name, `exact=False`
                and there is no vector index, or the model can't be loaded or is not the index's.
        """
        options = _options(options, keywords)
        several = [texts] if isinstance(texts, str) else list(texts)
        if not several:
            raise ValueError("texts is an empty list: expected at least one text")
        for text in several:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"expected texts with words in them, got {text!r}")
        embeds = None if options.search_in == "speech" else self.encode_texts(several)
        hits = self.search_text_embeds(embeds, options, several)
        return hits[0] if isinstance(texts, str) else hits

    def calibration(self) -> Calibration | None:
        """What unrelated texts reach in this index, if it is calibrated."""
        return read_calibration(self._store)

    def search_text_embeds(
        self,
        embeds: "np.ndarray | torch.Tensor | None",
        options: SearchOptions | None = None,
        texts: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """Find moments for embeddings of texts, and say how unusual their scores are.

        Args:
            embeds: From [`VideoIndex.encode_texts`]; `None` to search what is spoken only.
            options: See [`SearchOptions`]. What is no better than chance is left out, unless it has a `min_score`.
            texts: The texts, to search what is spoken too.

        Raises:
            ValueError: As in [`VideoIndex.search_embeds`], or if neither embeddings nor texts are given.
        """
        options = options or SearchOptions()
        queries = None if embeds is None or options.search_in == "speech" else self._check_embeds(embeds)
        spoken = None if options.search_in == "picture" else texts
        if queries is None and spoken is None:
            raise ValueError("expected embeddings, or texts to search what is spoken")
        if queries is not None and spoken is not None and len(queries) != len(spoken):
            raise ValueError(f"expected a text for each of {len(queries)} embeddings, got {len(spoken)}")
        if queries is None:
            return self._search(None, options, spoken)
        calibration = self.calibration()
        if calibration is None:
            return self._search(queries, options, spoken)
        if options.min_score is None:
            options = replace(options, min_score=calibration.threshold)
        return [
            Hits(hit if hit.score is None else replace(hit, chance=calibration.chance(hit.score)) for hit in hits)
            for hits in self._search(queries, options, spoken)
        ]

    @property
    def needs_model(self) -> bool:
        """Whether the model has to be loaded for a search by texts.

        It has not where the model has run on ONNX Runtime before, as it does where it makes an index on a CPU: then
        its text tower is at hand.
        """
        return self._text_tower is None

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts for [`VideoIndex.search_embeds`], of this index or another one of the same model.

        Returns:
            Of shape `(Q, D)`, or with word-token interaction `(Q, words, D)`.

        Raises:
            ValueError: If the model can't be loaded or is not the index's.
        """
        if self._text_tower is not None:
            return self._text_tower.encode(texts)
        from ..encoding.texts import encode_texts

        embeds: np.ndarray = encode_texts(*self._encoder, list(texts)).numpy()
        return embeds

    def search_video(
        self,
        video: Any,
        options: SearchOptions | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        **keywords: "Unpack[SearchKeywords]",
    ) -> list[Hit]:
        """Find moments like a clip.

        The clip is encoded as a whole, and the mean of its frame embeddings, each of length 1, is the query, as a
        text's embedding would be. The model is trained to match texts with videos and not videos with each other, so
        the scores of the two kinds of search don't compare.

        Args:
            video: A video of any kind that the processor takes.
            options: See [`SearchOptions`].
            start: Second of the clip at which to start, for a part of it.
            end: Second at which to end.
            **keywords: Fields of the options.

        Raises:
            ValueError: If the video can't be decoded, and as in [`VideoIndex.search`].
            OSError: If it can't be opened.
        """
        options = _options(options, keywords)
        _, processor = self._encoder
        moment: dict[str, Any] = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
        inputs = processor(videos=[video], clock="seconds", **moment)  # as the windows of an index have it
        return self.search_inputs(inputs, options)

    def search_inputs(
        self,
        inputs: "Mapping[str, torch.Tensor]",
        options: SearchOptions | None = None,
        **keywords: "Unpack[SearchKeywords]",
    ) -> list[Hit]:
        """Find moments like a clip that is ready for the model, as [`VideoIndex.search_video`] does.

        Args:
            inputs: As for [`VideoIndex.encode_inputs`].
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Raises:
            ValueError: As in [`VideoIndex.search`].
        """
        return self.search_embeds(self.encode_inputs(inputs), _options(options, keywords))[0]

    def encode_inputs(self, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Encode a clip for [`VideoIndex.search_embeds`].

        Args:
            inputs: `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`, as
                the model's processor makes them.

        Returns:
            Of shape `(1, D)`.

        Raises:
            ValueError: If the model can't be loaded or is not the index's.
        """
        import torch

        model, _ = self._encoder
        pixels, mask = (inputs[name].to(model.device) for name in ("pixel_values_videos", "padding_mask_videos"))
        with torch.inference_mode():
            return model.get_video_features(pixels, mask).pooler_output.float()

    def search_embeds(
        self,
        embeds: "np.ndarray | torch.Tensor",
        options: SearchOptions | None = None,
        **keywords: "Unpack[SearchKeywords]",
    ) -> list[list[Hit]]:
        """Find moments for embeddings of the index's own model.

        Args:
            embeds: Of shape `(Q, D)` and any length but 0. With word-token interaction also `(Q, words, D)`, zeros for
                padding; without the axis of words, each query is of one word.
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Returns:
            One list of hits a query.

        Raises:
            ValueError: If the embeddings are of another shape or aren't finite, and as in [`VideoIndex.search`].
        """
        return self._search(self._check_embeds(embeds), _options(options, keywords))

    def _search(
        self, queries: np.ndarray | None, options: SearchOptions, texts: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """Find moments, by their pictures if there are embeddings, and by what is spoken if there are texts."""
        snapshot = self._store.snapshot()
        condition = snapshot.condition(options.path, options.metadata, options.videos)
        return _hits(self.path, snapshot, self._moments(snapshot, queries, texts, options, condition))

    def _moments(
        self,
        snapshot: Snapshot,
        queries: np.ndarray | None,
        texts: Sequence[str] | None,
        options: SearchOptions,
        condition: Condition | None,
    ) -> list[list[Moment]]:
        """The moments of each query. More windows are looked at for those that have too few moments."""
        moments: dict[int, list[Moment]] = {}
        count = windows_for(options.k, self.about.windows)
        waiting = list(range(len(texts or ()) if queries is None else len(queries)))
        frames_of = snapshot.unit_frames if options.fold else None
        least = -np.inf if options.min_score is None else options.min_score
        of_spoken = None if texts is None else snapshot.spoken_condition(condition)
        while waiting:
            seen: list[list[ScoredWindow]] = [[] for _ in waiting]
            if queries is not None:
                seen = best_windows(
                    snapshot, queries[waiting], count, self._matching, options.exact, condition
                ).windows
            again = []
            for number, pictures in zip(waiting, seen, strict=True):
                speech = [] if texts is None else snapshot.spoken(texts[number], count, of_spoken)
                if speech:  # what is no better than chance gets no weight
                    pictures = [window for window in pictures if window.score >= least]
                moments[number] = choose(fuse_windows(pictures, speech), options.k, options.per_video, frames_of)
                is_full = count in (len(pictures), len(speech))
                if is_full and self._may_have_more(pictures, moments[number], options):
                    again.append(number)
            waiting = again
            count *= 4
            if count > _MOST_WINDOWS:
                break
        return [[moment for moment in moments[number] if moment.window.reaches(least)] for number in sorted(moments)]

    def _may_have_more(
        self, pictures: Sequence[ScoredWindow], moments: Sequence[Moment], options: SearchOptions
    ) -> bool:
        """Whether windows that are worse than these may be moments, or copies of some."""
        if len(moments) < options.k:
            return True
        last = moments[-1].window.picture
        if last is None or not pictures:
            return False
        # A copy may score a little less than what it is a copy of.
        slack = (1 - COPY_COSINE) * self.about.logit_scale
        return options.fold and pictures[-1].score >= last.score - slack

    def window(self, window: str) -> IndexedMoment:
        """Look up a window by its name, which [`Hit`] has.

        Raises:
            LookupError: If there is none of that name.
        """
        moment = self._store.snapshot().window(window)
        if moment is None:
            raise LookupError(f"there is no window {window!r} in {self.path}")
        return moment

    def open_video(self, video_id: str) -> VideoFile:
        """Find the file of an indexed video, and of no other; its `open()` gives the bytes.

        Raises:
            LookupError: If no such video is indexed.
            FileNotFoundError: If the file is gone or has changed since.
        """
        video = self._store.snapshot().video(video_id)
        if video is None:
            raise LookupError(f"{video_id} is not in {self.path}")
        file = locate(video_id)
        if file is None or file.signature != video.signature:
            raise FileNotFoundError(f"{video_id} is gone or has changed since it was indexed")
        return file

    def _check_embeds(self, embeds: "np.ndarray | torch.Tensor") -> np.ndarray:
        values = embeds.detach().cpu().float().numpy() if hasattr(embeds, "detach") else np.asarray(embeds)
        takes_words = self.about.matching_kind == "wti"
        if takes_words and values.ndim == 2:
            values = values[:, None]
        if values.ndim != 2 + takes_words or values.shape[-1] != self.about.dim:
            words = "words, " if takes_words else ""
            raise ValueError(f"embeds must have shape (queries, {words}{self.about.dim}), got {values.shape}")
        if not np.isfinite(values).all() or not values.reshape(len(values), -1).any(axis=1).all():
            raise ValueError("embeds must be finite numbers, and not all of a query 0")
        return np.ascontiguousarray(values, dtype=np.float32)

    @cached_property
    def _matching(self) -> Matching:
        """How to match. Word-token interaction needs the model's networks for it."""
        return (
            matching_of(self.about, self._encoder[0]) if self.about.matching_kind == "wti" else Matching.of(self.about)
        )

    @cached_property
    def _text_tower(self) -> TextTower | None:
        """The text tower of the index's model, if it is at hand and no model was given."""
        return TextTower.of(self.about.fingerprint) if self._model is None else None

    @cached_property
    def _encoder(self) -> "tuple[TS2NetModel, TS2NetProcessor]":
        """The model that the index was made with, and its processor."""
        from ..encoding.fingerprint import fingerprint
        from ..hub.loading import load_model
        from ..modeling_ts2net import TS2NetModel

        about = self.about
        if isinstance(self._model, TS2NetModel):
            if self._processor is None:
                raise ValueError("a loaded model needs its processor: give processor as well")
            model, processor = self._model.eval(), self._processor
            name = model.name_or_path or "the given model"
        else:
            name = about.model if self._model is None else os.fspath(self._model)
            revision = about.revision if self._model is None else None
            model, processor = load_model(name, revision=revision, dtype=about.dtype, device=self._device)
        if fingerprint(model, processor) != about.fingerprint:
            at = f" at {about.revision}" if about.revision else ""
            raise ValueError(
                f"{self.path} was made with {about.model}{at} in {about.dtype}, and {name} in "
                f"{str(model.dtype).removeprefix('torch.')} is another model or has another processor: search with "
                "that one, or index the videos again"
            )
        return model, processor


def best_windows(
    snapshot: Snapshot,
    queries: np.ndarray,
    count: int,
    matching: Matching,
    exact: bool | None = None,
    condition: Condition | None = None,
) -> Top:
    """Find the best windows of each query, overlapping ones included.

    Args:
        snapshot: The index.
        queries: Query embeddings in float32, as `matching.top_windows` takes them.
        count: How many windows a query.
        matching: The index's matching.
        exact: As in [`SearchOptions`].
        condition: The videos to choose from.

    Raises:
        ValueError: If `exact=False` and there is no vector index.
    """
    if not exact:
        has_index = snapshot.has_vector_index()
        if exact is False and not has_index:
            raise ValueError(
                f"{snapshot.path} has no vector index, which only large indexes have: search it with exact=True"
            )
        exact = not has_index
    if exact:
        with closing(read_ahead(snapshot.batches(condition), _BATCHES_AHEAD)) as batches:
            return top_windows(batches, queries, count, matching)
    tops = []
    for number, query in enumerate(queries):
        rows = snapshot.candidates(matching.direction(query), _CANDIDATES + _CANDIDATES_A_WINDOW * count, condition)
        tops.append(top_windows(snapshot.take(rows), queries[number : number + 1], count, matching))
    scored_in_full = sum(top.scored_in_full for top in tops)
    return Top([top.windows[0] for top in tops], len(queries) * len(snapshot), scored_in_full)


def _options(options: SearchOptions | None, keywords: SearchKeywords) -> SearchOptions:
    if not isinstance(options, SearchOptions | None):
        raise TypeError(
            f"options must be SearchOptions, got {options!r}; the number of hits is a keyword, k={options!r}"
        )
    return replace(options or SearchOptions(), **keywords)


def _hits(index: str, snapshot: Snapshot, moments: Sequence[Sequence[Moment]]) -> list[list[Hit]]:
    """Moments with what else is shown of them."""
    details = snapshot.details(
        list({window.row for some in moments for moment in some for window in [moment.window, *moment.copies]})
    )
    return [Hits(_hit(index, moment, details) for moment in some) for some in moments]


def _hit(index: str, moment: Moment, details: Mapping[int, WindowDetails]) -> Hit:
    window, shown = moment.window, details[moment.window.row]
    return Hit(
        video_id=window.video_id,
        start=window.start,
        end=window.end,
        second=_best_second(window, shown),
        score=None if window.picture is None else window.picture.score,
        spoken_score=None if window.speech is None else window.speech.score,
        spoken=window.words,
        metadata=shown.metadata,
        window=shown.window,
        thumbnail=shown.thumbnail,
        index=index,
        copies=tuple(Place(copy.video_id, copy.start, copy.end, details[copy.row].window) for copy in moment.copies),
    )


def _best_second(window: FoundWindow, shown: WindowDetails) -> float:
    if window.speech is not None:
        return window.speech.second
    assert window.picture is not None
    return shown.frame_times[window.picture.frame]


def _printable(text: str) -> str:
    """A text without halves of characters, which a byte of a file's name that is no UTF-8 is."""
    return text.encode(errors="backslashreplace").decode()
