"""Calibration of the scores of an index with texts that are unrelated to its videos.

A bank of captions of everyday scenes ships with the package. The best score of each caption in an index shows which
scores are reached by chance, given the index's model, its videos and their number. Some captions may match a video
after all. The threshold is a quantile, so a few such captions have little influence.
"""

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .about import About
from .searching import best_windows
from .store import Store
from .word_matching import matching_of

if TYPE_CHECKING:
    from ..modeling_ts2net import TS2NetModel
    from ..processing_ts2net import TS2NetProcessor

CHANCE = 0.1  # share of unrelated texts that have hits above the default threshold
_BANK = Path(__file__).with_name("unrelated_captions.txt")
_GROWTH = 1.1  # factor of the number of windows beyond which an index is calibrated again


@dataclass(frozen=True)
class Calibration:
    """Scores of unrelated texts in an index.

    Args:
        scores: Best score of each text, in ascending order.
        num_windows: Number of windows of the index when it was calibrated.
        captions: The texts, in the order of the scores.
    """

    scores: tuple[float, ...]
    num_windows: int
    captions: tuple[str, ...] = ()

    @property
    def threshold(self) -> float:
        """The score that one unrelated text in ten reaches."""
        return float(np.quantile(self.scores, 1 - CHANCE))

    def chance(self, score: float) -> float:
        """Return the share `(n + 1) / (N + 1)`, where `n` of `N` unrelated texts reach at least this score."""
        reach = len(self.scores) - bisect_left(self.scores, score)
        return (reach + 1) / (len(self.scores) + 1)


def read_bank() -> list[str]:
    """Return the captions of the bank."""
    return _BANK.read_text(encoding="utf-8").splitlines()


def read_calibration(store: Store) -> Calibration | None:
    """Return the calibration of an index, or `None` if it has none.

    Raises:
        OSError: If the index can't be read.
    """
    stored = store.unrelated_scores()
    if stored is None:
        return None
    scores, num_windows = stored
    captions = sorted(scores, key=lambda caption: (scores[caption], caption))
    return Calibration(tuple(scores[caption] for caption in captions), num_windows, tuple(captions))


def example_texts(store: Store, count: int) -> list[str]:
    """Return texts that are likely to have hits in an index: the captions of the bank with the highest scores.

    Raises:
        OSError: If the index can't be read.
    """
    calibration = read_calibration(store)
    best = [] if calibration is None else list(reversed(calibration.captions))
    return list(dict.fromkeys([*best[:count], *read_bank()]))[:count]


def is_stale(store: Store) -> bool:
    """Whether an index has no calibration, or has grown or shrunk by about a tenth since its calibration."""
    calibration = read_calibration(store)
    windows = len(store.snapshot())
    if calibration is None or not calibration.num_windows:
        return windows > 0
    return not 1 / _GROWTH <= windows / calibration.num_windows <= _GROWTH


def calibrate(store: Store, model: "TS2NetModel", processor: "TS2NetProcessor") -> None:
    """Search an index for all captions of the bank, and store their best scores.

    Args:
        store: The index, open for writing.
        model: Model of the index.
        processor: The model's processor.

    Raises:
        StoreError: If the index can't be written.
    """
    from ..encoding.texts import encode_texts

    about: About = store.about
    snapshot = store.snapshot()
    windows = len(snapshot)
    if not windows:
        return
    bank = read_bank()
    # Batches are faster. They change the last bits of the embeddings, which doesn't matter for a threshold.
    longest = processor(text=bank)["input_ids"].shape[1]
    embeds = encode_texts(model, processor, bank, max_words=longest).numpy()
    top = best_windows(snapshot, np.ascontiguousarray(embeds), 1, matching_of(about, model))
    store.set_unrelated_scores(bank, [of_text[0].score for of_text in top.windows], windows)
