"""Page of the demo: a search box over the clips, captions with their first hits, and selected patches."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..pages.rendering import render_page
from ..tables import best_first
from .answers import Answer, LookedAt, Scores, Share
from .clips import Clip

_HITS_A_PHRASE = 6


@dataclass(frozen=True)
class Findings:
    """Content of the page.

    Attributes:
        clips: The clips that are searched.
        phrases: Queries that the search box can answer.
        suggestions: Suggested queries; the page opens with the results of the first one.
        found_first: Number of captions whose own clip is the first hit.
        scores: Scores of the phrases and captions.
        captions: Answers for randomly drawn captions.
        motions: For each group of clips that differ only in their motion, the answers for its captions.
        small_things: Clips with small things, and the patches selected in them.
        share: Share of the selected patches, and of all patches, that show a thing.
        facts: Names and values of the table of facts.
        search_command: The command that searches for any sentence, without the sentence.
        next_commands: Descriptions and commands of suggested next steps.
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
    """Render the page as a single HTML file."""
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
    """Return the indices and scores of the best clips for a phrase."""
    row = [findings.scores[phrase][clip.scene.video_id] for clip in findings.clips]
    return [(index, round(row[index], 2)) for index in best_first(row)[:_HITS_A_PHRASE]]
