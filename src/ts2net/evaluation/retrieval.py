"""Retrieval evaluation of a model on one split, from the videos to the metrics of the paper's tables.

- A video that is missing or can't be decoded stays in the split, so missing videos can't raise the metrics. It is
  scored below all other videos, and its own queries count as missed in both directions.
- Scores are computed in blocks. A large score matrix is kept in a temporary file instead of memory, in the folder of
  `TMPDIR`. If /tmp is a file system in memory, set `TMPDIR` to another folder.
- All processes share the encoding. The main process ranks, and all processes return its result.
"""

import os
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ..data.collating import check_sizes
from ..data.evaluation_videos import EvaluationRow, EvaluationVideos
from ..encoding.long_texts import LongTexts
from ..files import write_errors_named
from ..modeling_ts2net import TS2NetModel
from ..parallel.distributed import cpu_group, on_main_process
from ..processing_ts2net import TS2NetProcessor
from ..videos.broken import BrokenVideo
from .encoding import EncodedSplit, encode_split
from .metrics import rank_statistics, retrieval_ranks

if TYPE_CHECKING:
    import datasets

_BLOCK_COSINES = 2**20  # texts x videos x frames per call of `similarity`
_TEXTS_A_BLOCK = 256
_MOST_BYTES_IN_MEMORY = 2**30
_BELOW_ALL = -1e30  # score of a missing video; finite in float32, as the metrics require


@dataclass(frozen=True)
class RetrievalResult:
    """Metrics of a model on a split.

    Attributes:
        metrics: The metrics of [`retrieval_metrics`]. If videos have groups, also `"text-to-video group R@1"` and
            `"video-to-text group R@1"`: R@1 among the candidates of the query's own group, in percent.
        dual_softmax: The metrics with the dual softmax, which uses all test texts at once; no group metrics.
        num_texts: Number of text-to-video queries.
        num_videos: Number of video-to-text queries, including missing videos.
        num_groups: Number of groups of at least two candidates.
        broken: The videos that are missing or can't be used. Each of their queries, in both directions, counts as
            missed, and as ranked last in the median and mean rank.
        num_left_out: Number of videos of the split that all metrics leave out.
    """

    metrics: dict[str, float]
    dual_softmax: dict[str, float]
    num_texts: int
    num_videos: int
    num_groups: int
    broken: list[BrokenVideo]
    num_left_out: int = 0

    @property
    def num_missing(self) -> int:
        """Number of videos that are missing or can't be used, and whose queries count as missed."""
        return len(self.broken)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields in a form that JSON can store."""
        fields = asdict(self) | {"num_missing": self.num_missing}
        fields["broken"] = [{"video_id": video.video_id, "reason": video.reason} for video in self.broken]
        return fields


def evaluate_retrieval(
    model: TS2NetModel,
    dataset: "datasets.Dataset | datasets.IterableDataset",
    processor: TS2NetProcessor,
    *,
    num_frames: int | None = None,
    max_words: int | None = None,
    long_texts: LongTexts = "truncate",
    batch_size: int = 16,
    num_workers: int = 0,
    num_videos: int | None = None,
    leave_out_missing: bool = False,
    progress: bool = False,
) -> RetrievalResult:
    """Evaluate text-to-video and video-to-text retrieval on a split with its own captions.

    In a distributed run every process must call this function with the whole split and the whole, unwrapped model; the
    processes share the work. The batch size and the numbers of workers and processes don't change the metrics, except
    that the last bits of an embedding may depend on them.

    Args:
        model: The model, on its device. Its training or evaluation mode is restored afterwards.
        dataset: The split with the standard columns, as returned by `load_benchmark(..., with_missing=True)`.
        processor: The model's processor.
        num_frames: Maximum number of frames of a video. `None` uses the number of the processor, as in training.
        max_words: Maximum number of tokens of a text. `None` uses the processor's `max_words`, the number in training,
            if it is set, and otherwise the tokenizer's maximum.
        long_texts: `"truncate"` uses the beginning of a longer text, as in training; `"split"` splits the text into
            sentences and averages their scores.
        batch_size: Number of videos in a batch of one process.
        num_workers: Number of decoding processes for each process.
        num_videos: Number of videos of the split, if known, for the remaining time in the progress bar.
        leave_out_missing: Leave out videos that are missing or can't be used, with their queries, as the released
            loaders do. The metrics then refer to a smaller split and are higher.
        progress: Show a progress bar if standard error is a terminal.

    Returns:
        The result, the same on every process.

    Raises:
        TypeError: If `dataset` is not a dataset.
        ValueError: If a column or a video's captions are missing, a number is out of range, no video can be used, or
            an embedding is not finite.
        MainProcessError: On the other processes, if the main process fails after the encoding.
    """
    num_frames = processor.video_processor.num_frames if num_frames is None else num_frames
    max_words = max_words or processor.max_words or processor.tokenizer.model_max_length
    check_sizes(processor, num_frames, max_words)
    with cpu_group() as group:
        videos = EvaluationVideos(
            dataset,
            processor,
            batch_size=batch_size,
            num_frames=num_frames,
            process_index=0 if group is None else group.rank(),
            num_processes=1 if group is None else group.size(),
            num_workers=num_workers,
        )
        encoded = encode_split(
            model,
            processor,
            videos,
            max_words=max_words,
            long_texts=long_texts,
            group=group,
            num_videos=num_videos,
            progress=progress,
        )
        return on_main_process(
            lambda: rank_split(model, cast(EncodedSplit, encoded), leave_out_missing=leave_out_missing), group
        )


def rank_split(model: TS2NetModel, encoded: EncodedSplit, *, leave_out_missing: bool = False) -> RetrievalResult:
    """Match the embeddings of a split and rank them.

    Raises:
        ValueError: If no video can be used, a video has no caption, or an embedding is not finite.
    """
    encoded.check()
    num_left_out = len(encoded.broken) if leave_out_missing else 0
    if num_left_out:
        encoded = _without_broken(encoded)
    is_broken = torch.zeros(len(encoded.rows), dtype=torch.bool)
    is_broken[list(encoded.broken)] = True
    scores = _scores(model, encoded, is_broken)
    video_of_text = encoded.video_of_text
    missed = {"text-to-video": is_broken[video_of_text], "video-to-text": is_broken}

    def figures(dual_softmax: bool) -> dict[str, float]:
        ranks = retrieval_ranks(scores, video_of_text, dual_softmax=dual_softmax)
        return {
            f"{direction} {name}": value
            for direction, ranks_of_direction in ranks.items()
            for name, value in _statistics(ranks_of_direction, missed[direction]).items()
        }

    groups = _groups(encoded.rows)
    return RetrievalResult(
        metrics=figures(dual_softmax=False) | _group_figures(scores, video_of_text, is_broken, groups),
        dual_softmax=figures(dual_softmax=True),
        num_texts=len(video_of_text),
        num_videos=len(encoded.rows),
        num_groups=len(groups),
        broken=list(encoded.broken.values()),
        num_left_out=num_left_out,
    )


def _without_broken(encoded: EncodedSplit) -> EncodedSplit:
    """Return the split without the broken videos and their texts."""
    kept = torch.tensor([index for index in range(len(encoded.rows)) if index not in encoded.broken])
    new_index = torch.full((len(encoded.rows),), -1)
    new_index[kept] = torch.arange(len(kept))
    text_indices = new_index[encoded.video_of_text]
    texts = text_indices >= 0
    pieces = texts[encoded.text_of_piece]
    return replace(
        encoded,
        rows=[encoded.rows[index] for index in kept.tolist()],
        text_embeds=encoded.text_embeds[pieces],
        text_of_piece=(texts.cumsum(dim=0) - 1)[encoded.text_of_piece[pieces]],
        video_of_text=text_indices[texts],
        video_embeds=encoded.video_embeds[kept],
        padding_mask=encoded.padding_mask[kept],
        broken={},
    )


def _scores(model: TS2NetModel, encoded: EncodedSplit, is_broken: torch.Tensor) -> np.ndarray:
    """Compute the similarities of all texts and videos, `(Q, V)`, float32."""
    num_texts = len(encoded.video_of_text)
    num_videos, num_frames = encoded.padding_mask.shape
    scores = _room_for(num_texts, num_videos)
    texts_a_block = min(num_texts, _TEXTS_A_BLOCK)
    videos_a_block = max(1, _BLOCK_COSINES // (texts_a_block * num_frames))
    with torch.inference_mode():
        for first in range(0, num_videos, videos_a_block):
            columns = slice(first, first + videos_a_block)
            videos = encoded.video_embeds[columns].to(model.device)
            mask = encoded.padding_mask[columns].to(model.device)
            for start in range(0, num_texts, texts_a_block):
                rows = slice(start, start + texts_a_block)
                first_piece, end_piece = torch.searchsorted(
                    encoded.text_of_piece, torch.tensor([start, start + texts_a_block])
                ).tolist()
                pieces = slice(first_piece, end_piece)
                of_pieces = model.similarity(encoded.text_embeds[pieces].to(model.device), videos, mask).cpu()
                scores[rows, columns] = _mean_of_pieces(of_pieces, encoded.text_of_piece[pieces] - start).numpy()
    scores[:, is_broken.numpy()] = _BELOW_ALL
    return scores


def _mean_of_pieces(scores: torch.Tensor, text_of_piece: torch.Tensor) -> torch.Tensor:
    """Average the scores of pieces `(P, V)` to scores of texts `(Q, V)`. Unsplit texts keep their scores exactly."""
    counts = text_of_piece.bincount()
    if len(counts) == len(scores):
        return scores
    sums = scores.new_zeros(len(counts), scores.shape[1]).index_add(0, text_of_piece, scores)
    return sums / counts[:, None]


def _room_for(num_texts: int, num_videos: int) -> np.ndarray:
    """Create an array for the scores: in memory, or in an unnamed temporary file if the matrix is large."""
    shape = (num_texts, num_videos)
    num_bytes = 4 * num_texts * num_videos
    if num_bytes <= _MOST_BYTES_IN_MEMORY:
        return np.empty(shape, dtype=np.float32)
    with write_errors_named(tempfile.gettempdir()), tempfile.TemporaryFile() as file:  # the map keeps the file open
        if hasattr(os, "posix_fallocate"):  # a full disk raises here; otherwise writing would kill the process
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def _statistics(ranks: torch.Tensor, missed: torch.Tensor) -> dict[str, float]:
    """Compute recalls and rank statistics. A missed query counts in no recall, even if there are few candidates."""
    ranked = rank_statistics(ranks)
    recalls = rank_statistics(ranks.masked_fill(missed, torch.iinfo(ranks.dtype).max))
    return {name: (recalls if name.startswith("R@") else ranked)[name] for name in ranked}


def _groups(rows: list[EvaluationRow]) -> list[list[int]]:
    """Return the video indices of each group. A group of one video is left out, because it has only one candidate."""
    indices: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.group is not None:
            indices.setdefault(row.group, []).append(index)
    return [group for group in indices.values() if len(group) > 1]


def _group_figures(
    scores: np.ndarray, video_of_text: torch.Tensor, is_broken: torch.Tensor, groups: list[list[int]]
) -> dict[str, float]:
    """Compute R@1 among the candidates of the query's group, for the queries that have a group."""
    if not groups:
        return {}
    texts_of: list[list[int]] = [[] for _ in is_broken]
    for text, video in enumerate(video_of_text.tolist()):
        texts_of[video].append(text)
    ranks: dict[str, list[torch.Tensor]] = {"text-to-video": [], "video-to-text": []}
    missed: dict[str, list[torch.Tensor]] = {"text-to-video": [], "video-to-text": []}
    for videos in groups:
        texts = [text for video in videos for text in texts_of[video]]
        column_of_text = [column for column, video in enumerate(videos) for _ in texts_of[video]]
        for direction, ranks_in_group in retrieval_ranks(scores[np.ix_(texts, videos)], column_of_text).items():
            ranks[direction].append(ranks_in_group)
        missed["text-to-video"].append(is_broken[video_of_text[texts]])
        missed["video-to-text"].append(is_broken[videos])
    return {
        f"{direction} group R@1": _statistics(torch.cat(ranks[direction]), torch.cat(missed[direction]))["R@1"]
        for direction in ranks
    }
