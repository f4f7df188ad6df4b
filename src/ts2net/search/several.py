"""Search of several indexes of one model as if they were one."""

from collections.abc import Sequence

from .fusing import fused_order, share_modality
from .hits import Hit, Hits
from .index import VideoIndex
from .options import SearchOptions


def search_several(indexes: Sequence[VideoIndex], texts: Sequence[str], options: SearchOptions) -> list[list[Hit]]:
    """Find the moments that texts describe in several indexes.

    Args:
        indexes: At least one, all of one model. The first one encodes the texts, unless only speech is searched.
        texts: The texts.
        options: See [`SearchOptions`].

    Returns:
        The hits of each text, best first. A moment that is found in several indexes is returned once.

    Raises:
        ValueError: Same as in [`VideoIndex.search`].
    """
    if len(indexes) == 1:
        return indexes[0].search(list(texts), options)
    embeds = None if options.search_in == "speech" else indexes[0].encode_texts(texts)
    hits_per_index = [index.search_text_embeds(embeds, options, texts) for index in indexes]
    return [
        _joined([hit for hits in hits_of_a_text for hit in hits], options)
        for hits_of_a_text in zip(*hits_per_index, strict=True)
    ]


def _joined(hits: Sequence[Hit], options: SearchOptions) -> list[Hit]:
    joined: list[Hit] = []
    for hit in _best_first(hits):
        of_video = [other for other in joined if other.video_id == hit.video_id]
        overlaps = any(
            min(hit.end, other.end) > max(hit.start, other.start) and share_modality(hit, other) for other in of_video
        )
        if not overlaps and (options.per_video is None or len(of_video) < options.per_video):
            joined.append(hit)
    return Hits(joined[: options.k])


def _best_first(hits: Sequence[Hit]) -> list[Hit]:
    """Sort the hits of several indexes in the order that a single index would return."""
    pictures = [
        (-hit.score, hit.video_id, hit.start, number) for number, hit in enumerate(hits) if hit.score is not None
    ]
    speech = [
        (-hit.spoken_score, hit.video_id, hit.start, number)
        for number, hit in enumerate(hits)
        if hit.spoken_score is not None
    ]
    order = fused_order(*([number for *_, number in sorted(ranking)] for ranking in (pictures, speech)))
    return [hits[number] for number in order]
