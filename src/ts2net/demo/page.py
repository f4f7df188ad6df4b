"""The demo's page: a search box over the clips, captions with their first hits, and where the model looked."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..pages.rendering import render_page
from ..tables import best_first
from .answers import Answer, LookedAt, Scores, Share
from .clips import Clip

_HITS_A_PHRASE = 6


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    Attributes:
        clips: The clips that are searched.
        phrases: What the search box can answer.
        suggestions: Those that it begins with; the first one is answered at once.
        found_first: How many captions have their own clip as the first hit.
        scores: Of the phrases and captions.
        captions: Answers for drawn captions.
        motions: For each group of clips that differ in their motion alone, the answers for its captions.
        small_things: Clips with small things, and what was selected in them.
        share: Of the selected patches that show a thing.
        facts: Names and values.
        search_command: The command that answers any sentence, without the sentence.
        next_commands: What to try next, each with what it does.
    """

    clips: Sequence[Clip]
    phrases: Sequence[str]
    suggestions: Sequence[str]
    found_first: int
    scores: Scores
    captions: Sequence[Answer]
    motions: Sequence[Sequence[Answer]]
    small_things: Sequence[LookedAt]
    share: Share
    facts: Sequence[tuple[str, str]]
    search_command: str
    next_commands: Sequence[tuple[str, str]]


def render_demo_page(findings: Findings) -> str:
    """Make the page, in one file."""
    return render_page(
        "demo.html",
        media="data:",
        script="demo.js",
        title="Clips found by a TS2-Net",
        findings=findings,
        hits=[_hits(findings, phrase) for phrase in findings.phrases],
        num_right=sum(answer.is_right for answer in findings.captions),
    )


def _hits(findings: Findings, phrase: str) -> list[tuple[int, float]]:
    """The best clips for a phrase: their indices and scores."""
    row = [findings.scores[phrase][clip.scene.video_id] for clip in findings.clips]
    return [(index, round(row[index], 2)) for index in best_first(row)[:_HITS_A_PHRASE]]
