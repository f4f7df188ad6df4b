"""How well a model retrieves: ranks, recalls, and the two re-weightings that published tables use."""

from .metrics import Querybank, rank_statistics, retrieval_metrics, text_to_video_ranks, video_to_text_ranks

__all__ = ["Querybank", "rank_statistics", "retrieval_metrics", "text_to_video_ranks", "video_to_text_ranks"]
