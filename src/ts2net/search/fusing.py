"""Fusion of two rankings of windows: one by their pictures and one by the words spoken in them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from .matching import ScoredWindow
from .options import FoundIn
from .records import SpokenWindow

Key = TypeVar("Key", bound=Hashable)


class _WindowOrHit(Protocol):
    @property
    def found_in(self) -> tuple[FoundIn, ...]: ...


@dataclass(frozen=True)
class FoundWindow:
    """A window that was found by its picture, by the words spoken in it, or by both.

    Args:
        video_id: See `sources.VideoFile`.
        start: Second at which it starts.
        end: Second at which it ends.
        row: Row of the window in the snapshot that was searched.
        picture: Match of the picture, if any.
        speech: Match of the spoken words, if any.
    """

    video_id: str
    start: float
    end: float
    row: int
    picture: ScoredWindow | None = None
    speech: SpokenWindow | None = None

    @property
    def found_in(self) -> tuple[FoundIn, ...]:
        """Where the window was found: `"picture"`, `"speech"` or both."""
        return found_in(self.picture, self.speech)

    def reaches(self, least: float) -> bool:
        """Whether the picture has at least the score `least`. A window that was found in speech needs no score."""
        return self.speech is not None or (self.picture is not None and self.picture.score >= least)

    @property
    def words(self) -> str | None:
        """The words spoken around the match; `None` if the window was not found in speech."""
        return None if self.speech is None else self.speech.words


def found_in(picture: object | None, speech: object | None) -> tuple[FoundIn, ...]:
    """Return the names of the matches that are not `None`."""
    return (*(("picture",) if picture is not None else ()), *(("speech",) if speech is not None else ()))


def share_modality(one: "_WindowOrHit", other: "_WindowOrHit") -> bool:
    """Whether two windows or hits were both found by their pictures, or both in speech."""
    return not set(one.found_in).isdisjoint(other.found_in)


def fuse_windows(pictures: Sequence[ScoredWindow], speech: Sequence[SpokenWindow]) -> list[FoundWindow]:
    """Fuse two rankings of windows. Each window is returned once.

    Args:
        pictures: Windows that were found by their pictures, best first.
        speech: Windows that were found in speech, best first. A window that was found in several languages counts at
            its first position.
    """
    windows: dict[tuple[str, float], FoundWindow] = {}
    for picture in pictures:
        windows[picture.video_id, picture.start] = FoundWindow(
            picture.video_id, picture.start, picture.end, picture.row, picture=picture
        )
    spoken: dict[tuple[str, float], SpokenWindow] = {}
    for match in speech:
        spoken.setdefault((match.video_id, match.start), match)
    picture_keys = list(windows)
    for key, match in spoken.items():
        window = windows.get(key, FoundWindow(match.video_id, match.start, match.end, match.row))
        windows[key] = replace(window, speech=match)
    return [windows[key] for key in fused_order(picture_keys, list(spoken))]


def fused_order(pictures: Sequence[Key], speech: Sequence[Key]) -> list[Key]:
    """Fuse two rankings by LanceDB's reciprocal rank fusion, which prefers keys with high ranks in both.

    Args:
        pictures: Keys that were found by pictures, best first. They come first in ties.
        speech: Keys that were found in speech, best first.
    """
    if not (pictures and speech):
        return [*pictures, *speech]
    import pyarrow as pa
    from lancedb.rerankers import RRFReranker

    keys = list(dict.fromkeys([*pictures, *speech]))
    numbers = {key: number for number, key in enumerate(keys)}
    rankings = [pa.table({"_rowid": [numbers[key] for key in ranking]}) for ranking in (pictures, speech)]
    fused = RRFReranker().rerank_hybrid("", *rankings)
    return [keys[number] for number in fused["_rowid"].to_pylist()]
