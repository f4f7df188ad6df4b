"""Windows that were found by their pictures and windows that were found by what is spoken in them, in one order."""

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
    """A window that was found, by its picture, by what is spoken in it, or by both.

    Args:
        video_id: See `sources.VideoFile`.
        start: Second at which it starts.
        end: Second at which it ends.
        row: Its row in the snapshot that was searched.
        picture: What was found in its picture, if anything.
        speech: What was found in what is spoken, if anything.
    """

    video_id: str
    start: float
    end: float
    row: int
    picture: ScoredWindow | None = None
    speech: SpokenWindow | None = None

    @property
    def found_in(self) -> tuple[FoundIn, ...]:
        """Where it was found."""
        return found_in(self.picture, self.speech)

    def reaches(self, least: float) -> bool:
        """Whether its picture has at least a score, or it was found in what is spoken, which needs none."""
        return self.speech is not None or (self.picture is not None and self.picture.score >= least)

    @property
    def words(self) -> str | None:
        """What is spoken around what was found."""
        return None if self.speech is None else self.speech.words


def found_in(picture: object | None, speech: object | None) -> tuple[FoundIn, ...]:
    """The names of those of the two that are there."""
    return (*(("picture",) if picture is not None else ()), *(("speech",) if speech is not None else ()))


def share_modality(one: "_WindowOrHit", other: "_WindowOrHit") -> bool:
    """Whether two windows or hits were both found by their pictures, or both by what is spoken."""
    return not set(one.found_in).isdisjoint(other.found_in)


def fuse_windows(pictures: Sequence[ScoredWindow], speech: Sequence[SpokenWindow]) -> list[FoundWindow]:
    """Windows in one order, each once.

    Args:
        pictures: Found by their pictures, best first.
        speech: Found by what is spoken in them, best first. Of those of one window, in several languages, the first
            counts.
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
    """Two rankings as one, by LanceDB's reciprocal rank fusion: what is high up in both comes first.

    Args:
        pictures: What was found by pictures, best first. It comes first where both are of one rank.
        speech: What was found in speech, best first.
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
