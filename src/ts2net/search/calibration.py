"""How unusual a score is: what texts that fit nothing reach in an index.

Notable here: a bank of captions of everyday scenes ships with the package. The best score of each of them in an index
shows what a text reaches by chance there, for the index's model, its videos and their number. Some captions of the
bank may fit a video after all; the threshold is a quantile, on which a few of them have little influence.
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

CHANCE = 0.1  # the share of unrelated texts that find something by the default threshold
_BANK = Path(__file__).with_name("unrelated_captions.txt")
_GROWTH = 1.1  # of an index, in windows, from which on it is calibrated anew


@dataclass(frozen=True)
class Calibration:
    """What unrelated texts reach in an index.

    Args:
        scores: The best score of each of them, in ascending order.
        num_windows: How many windows there were.
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
        """The share of unrelated texts that find something of at least this score, counted as one more than do."""
        reach = len(self.scores) - bisect_left(self.scores, score)
        return (reach + 1) / (len(self.scores) + 1)


def read_bank() -> list[str]:
    """The captions of the bank."""
    return _BANK.read_text(encoding="utf-8").splitlines()


def read_calibration(store: Store) -> Calibration | None:
    """The calibration of an index, if it has one.

    Raises:
        OSError: If it can't be read.
    """
    stored = store.unrelated_scores()
    if stored is None:
        return None
    scores, num_windows = stored
    captions = sorted(scores, key=lambda caption: (scores[caption], caption))
    return Calibration(tuple(scores[caption] for caption in captions), num_windows, tuple(captions))


def example_texts(store: Store, count: int) -> list[str]:
    """Texts that are likely to find something in an index: the captions of the bank that score highest in it.

    Raises:
        OSError: If it can't be read.
    """
    calibration = read_calibration(store)
    best = [] if calibration is None else list(reversed(calibration.captions))
    return list(dict.fromkeys([*best[:count], *read_bank()]))[:count]


def is_stale(store: Store) -> bool:
    """Whether an index has no calibration, or has grown or shrunk by a tenth since."""
    calibration = read_calibration(store)
    windows = len(store.snapshot())
    if calibration is None or not calibration.num_windows:
        return windows > 0
    return not 1 / _GROWTH <= windows / calibration.num_windows <= _GROWTH


def calibrate(store: Store, model: "TS2NetModel", processor: "TS2NetProcessor") -> None:
    """Search an index for all captions of the bank, and store what they reach.

    Args:
        store: The index, open for writing.
        model: Its model.
        processor: The model's processor.

    Raises:
        StoreError: If it can't be written.
    """
    from ..encoding.texts import encode_texts

    about: About = store.about
    snapshot = store.snapshot()
    windows = len(snapshot)
    if not windows:
        return
    bank = read_bank()
    # Many at a time, which takes a part of the time: no threshold depends on the last bits of their embeddings.
    longest = processor(text=bank)["input_ids"].shape[1]
    embeds = encode_texts(model, processor, bank, max_words=longest).numpy()
    top = best_windows(snapshot, np.ascontiguousarray(embeds), 1, matching_of(about, model))
    store.set_unrelated_scores(bank, [of_text[0].score for of_text in top.windows], windows)
