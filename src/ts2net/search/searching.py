"""Search of an index: score windows, fuse them with the windows in which the words are spoken, and return hits.

- Every score is the model's own matching over all frames of a window, computed from the stored embeddings. This holds
  for exact searches and for the candidates of the vector index.
- A search reads a single snapshot, the latest commit at its start. So many searches can run at once, also while the
  index is written.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ..parallel.read_ahead import read_ahead
from .about import About
from .fusing import FoundWindow, fuse_windows
from .hits import Copy, Hit, Hits
from .matching import Matching, ScoredWindow, Top, top_windows
from .moments import COPY_COSINE, Moment, choose, windows_for
from .options import SearchOptions
from .records import WindowDetails
from .snapshot import Snapshot
from .video_rows import ChosenVideos

_CANDIDATES, _CANDIDATES_A_WINDOW = 40, 3
_BATCHES_AHEAD = 4
_MOST_WINDOWS = 4096  # considered for one query


@dataclass(frozen=True)
class Search:
    """A search of one snapshot.

    Args:
        snapshot: The snapshot of the index.
        about: What the index was made with.
        options: Options of the search.
        embeds: Query embeddings in float32, as for `matching.top_windows`; `None` to search no pictures.
        matching: Matching of the embeddings with frames.
        texts: Texts of the queries, as many as there are embeddings; `None` to search no speech.
    """

    snapshot: Snapshot
    about: About
    options: SearchOptions
    embeds: np.ndarray | None = None
    matching: Matching | None = None
    texts: Sequence[str] | None = None

    def hits(self) -> list[list[Hit]]:
        """Return the hits of each query, best first.

        Raises:
            ValueError: If no video has metadata of a given name, or if `exact=False` and there is no vector index.
            OSError: If the index can't be read.
        """
        moments = self._moments()
        windows = (window for some in moments for moment in some for window in [moment.window, *moment.copies])
        details = self.snapshot.details(list({window.row for window in windows}))
        return [Hits(_hit(self.snapshot.path, moment, details) for moment in some) for some in moments]

    def _moments(self) -> list[list[Moment]]:
        """Return the moments of each query. Queries with too few moments are searched again for more windows."""
        snapshot, options = self.snapshot, self.options
        chosen = snapshot.choose(options.path, options.metadata, options.videos)
        frames_of = snapshot.unit_frames if options.fold else None
        least = -np.inf if options.min_score is None else options.min_score
        moments: dict[int, list[Moment]] = {}
        count = windows_for(options.k, self.about.windows)
        waiting = list(range(len(self.texts or ()) if self.embeds is None else len(self.embeds)))
        while waiting:
            again = []
            for number, pictures in zip(waiting, self._seen(waiting, count, chosen), strict=True):
                speech = [] if self.texts is None else snapshot.spoken(self.texts[number], count, chosen)
                if speech:  # pictures no better than chance get no weight
                    pictures = [window for window in pictures if window.score >= least]
                moments[number] = choose(fuse_windows(pictures, speech), options.k, options.per_video, frames_of)
                is_full = count in (len(pictures), len(speech))
                if is_full and self._may_have_more(pictures, moments[number]):
                    again.append(number)
            waiting = again
            count *= 4
            if count > _MOST_WINDOWS:
                break
        return [[moment for moment in moments[number] if moment.window.reaches(least)] for number in sorted(moments)]

    def _seen(self, numbers: Sequence[int], count: int, chosen: ChosenVideos | None) -> list[list[ScoredWindow]]:
        """Return the windows whose pictures match some queries best."""
        if self.embeds is None or self.matching is None:
            return [[] for _ in numbers]
        return best_windows(
            self.snapshot, self.embeds[numbers], count, self.matching, self.options.exact, chosen
        ).windows

    def _may_have_more(self, pictures: Sequence[ScoredWindow], moments: Sequence[Moment]) -> bool:
        """Whether windows with lower scores than `pictures` may be moments, or copies of moments."""
        if len(moments) < self.options.k:
            return True
        last = moments[-1].window.picture
        if last is None or not pictures:
            return False
        # A copy may score slightly less than its original.
        slack = (1 - COPY_COSINE) * self.about.logit_scale
        return self.options.fold and pictures[-1].score >= last.score - slack


def best_windows(
    snapshot: Snapshot,
    queries: np.ndarray,
    count: int,
    matching: Matching,
    exact: bool | None = None,
    chosen: ChosenVideos | None = None,
) -> Top:
    """Find the best windows of each query, overlapping ones included.

    Args:
        snapshot: The snapshot of the index.
        queries: Query embeddings in float32, as for `matching.top_windows`.
        count: Number of windows per query.
        matching: Matching of the index.
        exact: See [`SearchOptions`].
        chosen: The videos to choose from.

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
        with closing(read_ahead(snapshot.batches(chosen), _BATCHES_AHEAD)) as batches:
            return top_windows(batches, queries, count, matching)
    tops = []
    for number, query in enumerate(queries):
        rows = snapshot.candidates(matching.direction(query), _CANDIDATES + _CANDIDATES_A_WINDOW * count, chosen)
        tops.append(top_windows(snapshot.take(rows), queries[number : number + 1], count, matching))
    scored_in_full = sum(top.scored_in_full for top in tops)
    return Top([top.windows[0] for top in tops], len(queries) * len(snapshot), scored_in_full)


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
        copies=tuple(Copy(copy.video_id, copy.start, copy.end, details[copy.row].window) for copy in moment.copies),
    )


def _best_second(window: FoundWindow, shown: WindowDetails) -> float:
    if window.speech is not None:
        return window.speech.second
    assert window.picture is not None
    return shown.frame_times[window.picture.frame]
