"""Queries of the page's search box: phrases for which scores are computed in advance."""

from collections.abc import Sequence

from ..benchmarks.moving_things import Scene, phrase


def phrases(scenes: Sequence[Scene], texts: Sequence[str] = ()) -> list[str]:
    """Return a few hundred phrases about clips, without duplicates.

    Args:
        scenes: Scenes of the clips.
        texts: Phrases to put first.

    Returns:
        `texts`, the captions, each thing, and each small thing.
    """
    things = {thing for scene in scenes for thing in (scene.thing, scene.companion) if thing}
    small = {scene.small for scene in scenes if scene.small}
    return list(
        dict.fromkeys(
            [
                *texts,
                *(scene.caption for scene in scenes),
                *(phrase(thing) for thing in sorted(things | small)),
                *(phrase(thing, "small") for thing in sorted(small)),
            ]
        )
    )
