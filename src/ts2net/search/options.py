"""Options of a search."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from .filters import MAX_PATTERN

FoundIn = Literal["picture", "speech"]
"""Where a text is found: in the picture of a moment, or in the words spoken in it."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of every search. The methods of `VideoIndex` take them as keywords too: `search("a dog", k=5)`.

    Args:
        k: Maximum number of moments per query. Fewer are returned if the index, or its filtered part, has no more.
        exact: Whether to score every window. `False` scores only the candidates of the vector index, which large
            indexes have. `None` is `False` if there is a vector index, and otherwise `True`.
        path: Search only videos whose path matches this pattern, such as `"*/holidays/*.mp4"`. A star also matches
            slashes, and a pattern that doesn't begin with a star may begin at any folder.
        metadata: Search only videos with these metadata values.
        videos: Search only videos with these ids.
        min_score: Return only moments whose picture has at least this score. `None` drops, for a text, moments that
            score no better than chance: below a score that one unrelated text in ten reaches in this index.
            `-math.inf` drops nothing. Moments that are found in speech need no score.
        per_video: Maximum number of moments of one video; `None` for any number.
        fold: Whether to merge moments that show nearly the same into one, which has the others as its `copies`. Each
            frame embedding of such a moment has a cosine of at least 0.995 with the same frame of the other moment.
        search_in: `"picture"` searches only what moments show, `"speech"` only what is spoken in them, which needs no
            model. `None` searches both if there are subtitles. A clip is searched for in pictures only.

    Raises:
        ValueError: If an option has the wrong type or is out of range.
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
    """The fields of [`SearchOptions`] as keywords of a search, for type checkers."""

    k: int
    exact: bool | None
    path: str | None
    metadata: Mapping[str, str] | None
    videos: Collection[str] | None
    min_score: float | None
    per_video: int | None
    fold: bool
    search_in: FoundIn | None
