"""Search an index with sentences or clips.

Texts and clips are encoded one by one, so that no result depends on the other queries of a call.
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
    """A searchable index of videos. Open one with [`VideoIndex.open`].

    Every search accepts [`SearchOptions`], as an object or as keywords: `index.search("a dog", k=5, path="*/2024/*")`.
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
            path: A folder, or an address that LanceDB accepts, such as `s3://bucket/index`.
            model: Model that encodes texts and clips, or its folder or repository. `None` loads the model that the
                index was made with, when a search first needs it.
            processor: The processor, for a loaded model.
            device: Device for the model, such as `"cuda:1"`. `None` is a GPU if there is one.

        Raises:
            FileNotFoundError: If there is no index.
            ValueError: If the index has another format, or was made with another model.
        """
        index = cls(Store.open(path), model, processor, device)
        if model is not None and not isinstance(model, (str, os.PathLike)):
            _ = index._encoder.model_and_processor  # checks the model now, not at the first search
        return index

    @property
    def path(self) -> str:
        """Location of the index."""
        return self._store.path

    @property
    def about(self) -> About:
        """Model and settings of the index."""
        return self._store.about

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._store.snapshot())

    def __repr__(self) -> str:
        """Show location and model, but no number of windows, which would read the index."""
        return f"VideoIndex({self.path!r}, model={self.about.model!r})"

    def _repr_html_(self) -> str:
        """Summarise the index for notebooks."""
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
        """Return the ids of all indexed videos."""
        return self._store.snapshot().video_ids()

    def broken(self) -> list[BrokenVideo]:
        """Return the videos that couldn't be indexed, with reasons."""
        return self._store.broken()

    @overload  # a str is a sequence of str too, but type checkers use the first match
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
        """Find the moments that texts describe, and those in which all words of a text are spoken (from subtitles).

        Args:
            texts: One text or several.
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Returns:
            For one text its hits, best first. For several texts a list of hits for each.

        Raises:
            ValueError: If a text is empty, an option is out of range, no video has metadata of a name, `exact=False`
                is set for an index without a vector index, or the model can't be loaded or is not the index's.
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
        """Return the scores of unrelated texts in this index, or `None` if it is not calibrated."""
        return read_calibration(self._store)

    def search_text_embeds(
        self,
        embeds: "np.ndarray | torch.Tensor | None",
        options: SearchOptions | None = None,
        texts: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """Find moments for embeddings of texts, with the chance of each score.

        Args:
            embeds: Embeddings from [`VideoIndex.encode_texts`]; `None` to search only speech.
            options: See [`SearchOptions`]. Without `min_score`, hits that are no better than chance are left out.
            texts: The texts, to search speech too.

        Raises:
            ValueError: If neither embeddings nor texts are given, and as in [`VideoIndex.search_embeds`].
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
        """Whether a search by texts has to load the model.

        If the model has run on ONNX Runtime before, for example to make an index on a CPU, its exported text tower is
        used instead, unless a model was passed to [`VideoIndex.open`].
        """
        return self._encoder.needs_model

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts for [`VideoIndex.search_embeds`] of this index, or of another index of the same model.

        Returns:
            Embeddings `(Q, D)`, or with word-token interaction `(Q, words, D)`.

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
        """Find moments that look like a clip.

        The query is the mean of the clip's normalised frame embeddings, used like the embedding of a text. The model
        is trained to match texts with videos and not videos with each other, so the scores of the two kinds of search
        are not comparable.

        Args:
            video: A video in any form that the processor accepts.
            options: See [`SearchOptions`].
            start: Start of the part of the clip to use, in seconds.
            end: End of this part, in seconds.
            **keywords: Fields of the options.

        Raises:
            ValueError: If the video can't be decoded, and as in [`VideoIndex.search`].
            OSError: If the video can't be opened.
        """
        options = _options(options, keywords)
        return self.search_embeds(self._encoder.video(video, start, end), options)[0]

    def search_inputs(
        self,
        inputs: "Mapping[str, torch.Tensor]",
        options: SearchOptions | None = None,
        **keywords: "Unpack[SearchKeywords]",
    ) -> list[Hit]:
        """Find moments that look like a preprocessed clip; see [`VideoIndex.search_video`].

        Args:
            inputs: Inputs of [`VideoIndex.encode_inputs`].
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Raises:
            ValueError: As in [`VideoIndex.search`].
        """
        return self.search_embeds(self.encode_inputs(inputs), _options(options, keywords))[0]

    def encode_inputs(self, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Encode a clip for [`VideoIndex.search_embeds`].

        Args:
            inputs: `pixel_values_videos` of shape `(1, T, 3, H, W)` and `padding_mask_videos` of shape `(1, T)`, from
                the model's processor.

        Returns:
            Embeddings `(1, D)`.

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
            embeds: Embeddings `(Q, D)` of any non-zero length. With word-token interaction also `(Q, words, D)`, with
                zeros for padding; without the axis of words, each query has one word.
            options: See [`SearchOptions`].
            **keywords: Fields of the options.

        Returns:
            One list of hits for each query.

        Raises:
            ValueError: If the embeddings have another shape or aren't finite, and as in [`VideoIndex.search`].
        """
        return self._search(checked_embeds(embeds, self.about), _options(options, keywords))

    def _search(
        self, queries: np.ndarray | None, options: SearchOptions, texts: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """Search pictures if there are embeddings, and speech if there are texts."""
        matching = None if queries is None else self._encoder.matching
        return Search(self._store.snapshot(), self.about, options, queries, matching, texts).hits()

    def window(self, window: str) -> IndexedMoment:
        """Look up a window by its name, such as `Hit.window`.

        Raises:
            LookupError: If there is no window of that name.
        """
        moment = self._store.snapshot().window(window)
        if moment is None:
            raise LookupError(f"there is no window {window!r} in {self.path}")
        return moment

    def open_video(self, video_id: str) -> VideoFile:
        """Find the file of an indexed video; its `open()` gives the bytes. Files that are not indexed are refused.

        Raises:
            LookupError: If no such video is indexed.
            FileNotFoundError: If the file is gone or has changed since it was indexed.
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
