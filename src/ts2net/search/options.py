"""What a search may be told, beside what it looks for."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from .filters import MAX_PATTERN

FoundIn = Literal["picture", "speech"]
"""Where a text is found: in what a moment shows, or in what is spoken in it."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of every search. The methods of `VideoIndex` take them as keywords too: `search("a dog", k=5)`.

    Args:
        k: How many moments a query at most. There are fewer if the index, or the filtered part of it, has no more.
        exact: Whether to score every window and give the very best. `False` scores only those that the vector index
            picks. `None` is `False` where there is a vector index, which large indexes have.
        path: Only videos whose path matches this pattern, such as `"*/holidays/*.mp4"`. A star stands for slashes too,
            and a pattern that doesn't begin with a star may begin at any folder.
        metadata: Only videos that have these values.
        videos: Only the videos of these ids.
        min_score: Only moments whose pictures have at least this score. `None` leaves out, for a text, what is no
            better than chance: a score that one unrelated text in ten reaches in this index. `-math.inf` leaves out
            nothing. What is spoken needs no score.
        per_video: How many moments of one video at most; `None` is any number.
        fold: Whether moments that show nearly the same become one, with the others as its `copies`. Nearly the same
            is a cosine of at least 0.995 of every frame's embedding with that of the same frame of the other.
        search_in: `"picture"` looks only at what moments show, `"speech"` only at what is spoken in them, which needs
            no model. `None` is both, where there are subtitles. A clip is looked for in pictures only.

    Raises:
        ValueError: If one is of another type or out of range.
    """

    k: int = 10
    exact: bool | None = None
    path: str | None = None
    metadata: Mapping[str, str] | None = None
    videos: Collection[str] | None = None
    min_score: float | None = None
    per_video: int | None = None
    fold: bool = False
    search_in: FoundIn | None = None

    def __post_init__(self) -> None:
        for name, number in (("k", self.k), ("per_video", 1 if self.per_video is None else self.per_video)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
        if self.min_score is not None and (isinstance(self.min_score, str) or math.isnan(self.min_score)):
            raise ValueError(f"min_score must be a number or None, got {self.min_score!r}")
        if not isinstance(self.fold, bool):
            raise ValueError(f"fold must be True or False, got {self.fold!r}")
        if self.search_in is not None and self.search_in not in get_args(FoundIn):
            raise ValueError(f"search_in must be 'picture', 'speech' or None, got {self.search_in!r}")
        if self.exact not in (None, True, False):
            raise ValueError(f"exact must be True, False or None, got {self.exact!r}")
        if self.path is not None and (not isinstance(self.path, str) or len(self.path) > MAX_PATTERN):
            raise ValueError(f"path must be a pattern of at most {MAX_PATTERN} characters, got {self.path!r:.80}")
        if isinstance(self.videos, str):
            raise ValueError(f"videos must be several ids, got the text {self.videos!r}")
        for name, value in (self.metadata or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"metadata must have names and values that are strings, got {name!r}: {value!r}")


class SearchKeywords(TypedDict, total=False):
    """The fields of [`SearchOptions`], for type checkers: each may be a keyword of a search."""

    k: int
    exact: bool | None
    path: str | None
    metadata: Mapping[str, str] | None
    videos: Collection[str] | None
    min_score: float | None
    per_video: int | None
    fold: bool
    search_in: FoundIn | None
