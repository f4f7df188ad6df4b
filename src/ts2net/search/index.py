"""Searching an index: a sentence or a clip in, moments of videos out.

Notable here: texts and clips are encoded one by one, so that no result depends on the other queries of a call.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..pages.rendering import printable
from ..videos.broken import BrokenVideo
from .about import About
from .calibration import Calibration, read_calibration
from .hits import Hit, Hits
from .options import SearchKeywords, SearchOptions
from .query_encoding import QueryEncoder, checked_embeds
from .records import IndexedMoment
from .searching import Search
from .sources import VideoFile, locate
from .store import Store

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from ..modeling_ts2net import TS2NetModel
    from ..processing_ts2net import TS2NetProcessor


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
        self._encoder = QueryEncoder(store.path, store.about, model, processor, device)

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
            _ = index._encoder.model_and_processor  # to refuse another model at once
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
        rows = (f"<tr><th>{name}</th><td>{escape(printable(fact))}</td></tr>" for name, fact in facts.items())
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
        queries = None if embeds is None or options.search_in == "speech" else checked_embeds(embeds, self.about)
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
        return self._encoder.needs_model

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts for [`VideoIndex.search_embeds`], of this index or another one of the same model.

        Returns:
            Of shape `(Q, D)`, or with word-token interaction `(Q, words, D)`.

        Raises:
            ValueError: If the model can't be loaded or is not the index's.
        """
        return self._encoder.texts(texts)

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
        return self.search_embeds(self._encoder.video(video, start, end), options)[0]

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
        return self._encoder.inputs(inputs)

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
        return self._search(checked_embeds(embeds, self.about), _options(options, keywords))

    def _search(
        self, queries: np.ndarray | None, options: SearchOptions, texts: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """Find moments, by their pictures if there are embeddings, and by what is spoken if there are texts."""
        matching = None if queries is None else self._encoder.matching
        return Search(self._store.snapshot(), self.about, options, queries, matching, texts).hits()

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


def _options(options: SearchOptions | None, keywords: SearchKeywords) -> SearchOptions:
    if not isinstance(options, SearchOptions | None):
        raise TypeError(
            f"options must be SearchOptions, got {options!r}; the number of hits is a keyword, k={options!r}"
        )
    return replace(options or SearchOptions(), **keywords)
