"""Ranks and recalls of text-video retrieval, from a matrix of similarities.

- Ties count against the model: a constant matrix has R@1 0. The rank of the true candidate is the number of candidates
  that do not score below it, including the true candidate.
- The matrix is read on the CPU in blocks of rows and never copied as a whole. It may be a memory map.
- The metrics do not depend on the block size or the order of rows and columns, because every column is summed row by
  row in float64. Otherwise two copies of a video could differ in the last bit instead of being tied.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Matrix: TypeAlias = torch.Tensor | npt.ArrayLike

_BLOCK_ENTRIES = 2**20  # 8 MiB in float64; a few blocks of this size are alive at a time
_EVERY = slice(None)


def retrieval_metrics(
    logits_per_text: Matrix,
    video_of_text: Sequence[int] | npt.ArrayLike | torch.Tensor | None = None,
    *,
    dual_softmax: bool = False,
    querybank: "Querybank | None" = None,
) -> dict[str, float]:
    """Compute recalls and rank statistics, as in the tables of the paper.

    Args:
        logits_per_text: Similarities of shape `(texts, videos)`, in any unit. A NumPy array may be a memory map.
        video_of_text: Column of each text's video, of shape `(texts,)`. Every video needs a text, unless
            `querybank` is given. `None`: text `i` belongs to video `i`.
        dual_softmax: Multiply each entry by its softmax over all texts, for the same video, before ranking (Cheng et
            al. 2021). The softmax uses all test texts at once, so mention it when reporting the results.
        querybank: Normalise with a bank of other texts before ranking. Then only the text-to-video metrics are
            returned.

    Returns:
        `"text-to-video R@1"`, `R@5`, `R@10`, `R@50` in percent, `MdR` and `MnR` (median and mean rank, 1 is best),
        and the same with `video-to-text`. The video-to-text rank of a video is the rank of its best text among the
        best texts of all videos.

    Raises:
        TypeError: If an input is not made of real numbers, or `video_of_text` not of integers.
        ValueError: If shapes do not fit, a similarity is NaN or infinite, an entry of `video_of_text` is not a column,
            a video has no text, or both `dual_softmax` and `querybank` are given.
    """
    ranks = retrieval_ranks(logits_per_text, video_of_text, dual_softmax=dual_softmax, querybank=querybank)
    return {
        f"{direction} {name}": value
        for direction, ranks_of_direction in ranks.items()
        for name, value in rank_statistics(ranks_of_direction).items()
    }


def retrieval_ranks(
    logits_per_text: Matrix,
    video_of_text: Sequence[int] | npt.ArrayLike | torch.Tensor | None = None,
    *,
    dual_softmax: bool = False,
    querybank: "Querybank | None" = None,
) -> dict[str, torch.Tensor]:
    """Compute the ranks behind [`retrieval_metrics`], with the same arguments and errors.

    Returns:
        `"text-to-video"`, of shape `(texts,)`, and without a querybank `"video-to-text"`, of shape `(videos,)`; int64.
    """
    matrix, videos = _matrix_and_videos(logits_per_text, video_of_text)
    if querybank is None:
        _check_every_video_has_a_text(matrix, videos)
    rescale = _rescaling(matrix, dual_softmax, querybank)
    ranks = {"text-to-video": _text_to_video(matrix, videos, rescale)}
    if not isinstance(rescale, Querybank):
        ranks["video-to-text"] = _video_to_text(matrix, videos, rescale)
    return ranks


def text_to_video_ranks(
    logits_per_text: Matrix,
    video_of_text: Sequence[int] | npt.ArrayLike | torch.Tensor | None = None,
    *,
    dual_softmax: bool = False,
    querybank: "Querybank | None" = None,
) -> torch.Tensor:
    """Compute the rank of each text's video among all videos; 1 is best.

    Arguments and errors are the same as in [`retrieval_metrics`], except that a video may have no text.

    Returns:
        Ranks of shape `(texts,)`, int64.
    """
    matrix, videos = _matrix_and_videos(logits_per_text, video_of_text)
    return _text_to_video(matrix, videos, _rescaling(matrix, dual_softmax, querybank))


def video_to_text_ranks(
    logits_per_text: Matrix,
    video_of_text: Sequence[int] | npt.ArrayLike | torch.Tensor | None = None,
    *,
    dual_softmax: bool = False,
) -> torch.Tensor:
    """Compute the rank of each video's best text among the best texts of all videos; 1 is best.

    Arguments and errors are the same as in [`retrieval_metrics`].

    Returns:
        Ranks of shape `(videos,)`, int64.
    """
    matrix, videos = _matrix_and_videos(logits_per_text, video_of_text)
    _check_every_video_has_a_text(matrix, videos)
    rescale = _DualSoftmax.over(matrix) if dual_softmax else None
    return _video_to_text(matrix, videos, rescale)


def rank_statistics(ranks: Sequence[int] | npt.ArrayLike | torch.Tensor) -> dict[str, float]:
    """Compute `R@1`, `R@5`, `R@10` and `R@50` in percent, `MdR` and `MnR` from ranks that start at 1.

    Raises:
        TypeError: If the ranks are not integers.
        ValueError: If the ranks are empty or not one-dimensional, or a rank is below 1.
    """
    values = _integers(ranks, "ranks")
    if not len(values):
        raise ValueError("ranks is empty: expected at least one rank")
    if values.min() < 1:
        index = int(values.argmin())
        raise ValueError(f"ranks[{index}] is {values[index]}: ranks count from 1")
    recalls = {f"R@{k}": 100.0 * int((values <= k).sum()) / len(values) for k in (1, 5, 10, 50)}
    # NumPy's median of an even number of values is the mean of the middle two, as in published figures.
    return recalls | {"MdR": float(np.median(values)), "MnR": float(np.mean(values))}


class Querybank:
    """Bank of queries that are not test texts, to find videos that match too many queries (Bogolin et al. 2022).

    This is QB-Norm with the dynamic inverted softmax. If the best video of a test text is also the best video of a
    query in the bank, the text is ranked by `exp(beta * s) / sum_bank exp(beta * s_bank)`, otherwise by its
    similarities. If several videos tie for the best, each of them counts. The bank is stored as two numbers
    and one flag per video.

    Args:
        logits_per_text: Similarities of the bank's queries, usually training captions, to the *test* videos, of
            shape `(queries, videos)` and in the unit of the test similarities.
        beta: Inverse temperature. The paper's value of 20 is for cosines. The default is the same temperature for 100
            times the cosine, because a trained CLIP multiplies cosines by 100 (`logit_scale`).

    Raises:
        TypeError: If the matrix is not made of real numbers.
        ValueError: If the matrix is empty, not two-dimensional or not finite, or `beta` is not a positive number.
    """

    def __init__(self, logits_per_text: Matrix, beta: float = 0.2) -> None:
        if not (math.isfinite(beta) and beta > 0):
            raise ValueError(f"beta must be a positive number, got {beta!r}")
        bank = _RowReader(logits_per_text, "the querybank's logits_per_text")
        self.beta = beta
        self._highest, totals = _column_exponentials(bank, beta)
        self._log_totals = totals.log()
        self._is_best_of_a_query = torch.zeros(bank.num_videos, dtype=torch.bool)
        for _, block in bank.blocks():
            self._is_best_of_a_query |= _best_of_row(block).any(dim=0)

    @property
    def num_videos(self) -> int:
        """Number of videos, which are the columns of the bank."""
        return len(self._is_best_of_a_query)

    def apply(self, block: torch.Tensor) -> torch.Tensor:
        """Normalise rows of the test matrix, `(rows, videos)`. Entries remain comparable within a row only.

        Returns the logarithm of the inverted softmax, which gives the same ranks and cannot overflow.
        """
        normalised = self.beta * (block.double() - self._highest) - self._log_totals
        is_normalised = (_best_of_row(block) & self._is_best_of_a_query).any(dim=1, keepdim=True)
        return torch.where(is_normalised, normalised, block.double())


@dataclass(frozen=True)
class _DualSoftmax:
    """Multiplication of each entry by its softmax over the texts, for the same video."""

    highest: torch.Tensor  # (videos,)
    totals: torch.Tensor  # (videos,)

    @classmethod
    def over(cls, matrix: "_RowReader") -> "_DualSoftmax":
        return cls(*_column_exponentials(matrix))

    def apply(self, entries: torch.Tensor, columns: slice | torch.Tensor = _EVERY) -> torch.Tensor:
        entries = entries.double()
        return entries * (torch.exp(entries - self.highest[columns]) / self.totals[columns])


class _RowReader:
    """Reader of a similarity matrix that checks it and copies it to the CPU a block of rows at a time."""

    def __init__(self, matrix: Matrix, name: str) -> None:
        self._name = name
        self._matrix = matrix.detach() if isinstance(matrix, torch.Tensor) else _as_array(matrix, name)
        shape = tuple(self._matrix.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{name} must have the shape (texts, videos), at least one of each, got {shape}")
        if not _is_real(self._matrix):
            raise TypeError(f"{name} must be made of real numbers, got {self._matrix.dtype}")
        self.num_texts, self.num_videos = shape

    def blocks(self, order: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield blocks of all rows: their row indices and the rows, `(rows, videos)`."""
        order = torch.arange(self.num_texts) if order is None else order
        for rows in order.split(max(1, _BLOCK_ENTRIES // self.num_videos)):
            block = self._read(rows)
            self._check_finite(block, rows)
            yield rows, block

    def entries(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return one entry for each pair of a row and a column."""
        return self._read(rows, columns)

    def _read(self, *index: torch.Tensor) -> torch.Tensor:
        if isinstance(self._matrix, torch.Tensor):
            read = self._matrix[tuple(part.to(self._matrix.device) for part in index)].cpu()
        else:
            chosen = self._matrix[tuple(part.numpy() for part in index)]
            # torch accepts only contiguous arrays in native byte order.
            read = torch.from_numpy(np.ascontiguousarray(chosen, dtype=chosen.dtype.newbyteorder("=")))
        return read if read.is_floating_point() else read.double()

    def _check_finite(self, block: torch.Tensor, rows: torch.Tensor) -> None:
        if all(bool(torch.isfinite(end)) for end in block.aminmax()):  # both are NaN if any entry is NaN
            return
        wrong = (~torch.isfinite(block)).nonzero()
        row, column = wrong[0].tolist()
        raise ValueError(f"{self._name}[{rows[row]}, {column}] is {block[row, column]}: similarities must be finite")


def _text_to_video(
    matrix: _RowReader, videos: torch.Tensor, rescale: "_DualSoftmax | Querybank | None"
) -> torch.Tensor:
    ranks = torch.empty(matrix.num_texts, dtype=torch.int64)
    for rows, block in matrix.blocks():
        scores = block if rescale is None else rescale.apply(block)
        true = scores.gather(1, videos[rows, None])
        ranks[rows] = matrix.num_videos - (scores < true).sum(dim=1)
    return ranks


def _video_to_text(matrix: _RowReader, videos: torch.Tensor, rescale: _DualSoftmax | None) -> torch.Tensor:
    num_videos = matrix.num_videos
    true = matrix.entries(torch.arange(matrix.num_texts), videos)
    true = true if rescale is None else rescale.apply(true, videos)
    best_true = true.new_full((num_videos,), -torch.inf).scatter_reduce(0, videos, true, "amax")

    # Rows are read video by video. The last video of a block may continue in the next block, so its best scores so
    # far are carried over as an additional row.
    ranks = torch.full((num_videos,), num_videos)
    carried_video, carried = videos.new_empty(0), true.new_empty(0, num_videos)
    for rows, block in matrix.blocks(videos.argsort(stable=True)):
        scores = torch.cat([carried, block if rescale is None else rescale.apply(block)])
        present, group = torch.cat([carried_video, videos[rows]]).unique_consecutive(return_inverse=True)
        best = scores.new_full((len(present), num_videos), -torch.inf)
        best.scatter_reduce_(0, group[:, None].expand_as(scores), scores, "amax")
        ranks -= _below(best[:-1], best_true, present[:-1])
        carried_video, carried = present[-1:], best[-1:]
    return ranks - _below(carried, best_true, carried_video)


def _below(best: torch.Tensor, best_true: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Count, for each video, the videos of `present` whose best text (rows of `best`) scores below its own."""
    below = best < best_true
    below[torch.arange(len(present)), present] = False  # rounding must not put a video below itself
    return below.sum(dim=0)


def _column_exponentials(matrix: _RowReader, beta: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the parts of a softmax over rows: each column's maximum `m` and its sum of `exp(beta * (s - m))`."""
    highest = torch.full((matrix.num_videos,), -torch.inf, dtype=torch.float64)
    for _, block in matrix.blocks():
        highest = torch.maximum(highest, block.amax(dim=0).double())
    totals = torch.zeros_like(highest)
    for _, block in matrix.blocks():
        # Row by row, because the order in which `sum` adds depends on the position of the column.
        for row in torch.exp(beta * (block.double() - highest)):
            totals += row
    return highest, totals


def _best_of_row(block: torch.Tensor) -> torch.Tensor:
    return block == block.amax(dim=1, keepdim=True)


def _rescaling(
    matrix: _RowReader, dual_softmax: bool, querybank: Querybank | None
) -> "_DualSoftmax | Querybank | None":
    if querybank is None:
        return _DualSoftmax.over(matrix) if dual_softmax else None
    if dual_softmax:
        raise ValueError("dual_softmax and querybank exclude each other: choose one")
    if querybank.num_videos != matrix.num_videos:
        raise ValueError(
            f"the querybank has {querybank.num_videos} videos, but logits_per_text {matrix.num_videos}: "
            "it must hold similarities to the same videos, in the same order"
        )
    return querybank


def _matrix_and_videos(
    logits_per_text: Matrix, video_of_text: Sequence[int] | npt.ArrayLike | torch.Tensor | None
) -> tuple[_RowReader, torch.Tensor]:
    matrix = _RowReader(logits_per_text, "logits_per_text")
    num_texts, num_videos = matrix.num_texts, matrix.num_videos
    if video_of_text is None:
        if num_texts != num_videos:
            raise ValueError(
                f"logits_per_text has {num_texts} texts and {num_videos} videos: give video_of_text, "
                "for only a square matrix goes without"
            )
        return matrix, torch.arange(num_texts)
    videos = torch.from_numpy(_integers(video_of_text, "video_of_text"))
    if len(videos) != num_texts:
        raise ValueError(f"video_of_text has {len(videos)} entries, but logits_per_text {num_texts} texts")
    outside = ((videos < 0) | (videos >= num_videos)).nonzero()
    if len(outside):
        text = int(outside[0])
        raise ValueError(f"video_of_text[{text}] is {videos[text]}: expected a column, 0 to {num_videos - 1}")
    return matrix, videos


def _check_every_video_has_a_text(matrix: _RowReader, videos: torch.Tensor) -> None:
    without = (videos.bincount(minlength=matrix.num_videos) == 0).nonzero()
    if len(without):
        raise ValueError(
            f"{len(without)} of {matrix.num_videos} videos have no text in video_of_text, the first is "
            f"{int(without[0])}: only text_to_video_ranks can do without"
        )


def _as_array(values: object, name: str) -> np.ndarray:
    try:
        return np.asarray(values)  # a memory map is not read
    except ValueError as error:
        raise ValueError(f"{name} must have the shape (texts, videos): {error}") from None


def _is_real(matrix: torch.Tensor | np.ndarray) -> bool:
    if isinstance(matrix, torch.Tensor):
        return not matrix.is_complex() and matrix.dtype != torch.bool
    return matrix.dtype != np.bool_ and np.can_cast(matrix.dtype, np.float64)


def _integers(values: Sequence[int] | npt.ArrayLike | torch.Tensor, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, got the shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be made of integers, got {array.dtype}")
    return array.astype(np.int64)
