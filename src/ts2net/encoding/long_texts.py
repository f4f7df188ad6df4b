"""Texts that exceed the length of the text transformer: truncated, or split into pieces that are scored one by one.

The score of a split text is the mean of the scores of its pieces. So sentences about different moments can each match
different frames, which a mean of their embeddings could not.
"""

import re
from collections.abc import Sequence
from typing import Literal

from ..processing_ts2net import TS2NetProcessor, clean_text

LongTexts = Literal["truncate", "split"]
"""`"truncate"` encodes the beginning, as in training; `"split"` encodes the whole text, sentence by sentence."""

_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?;。！？])\s+")


def split_texts(texts: Sequence[str], processor: TS2NetProcessor, max_words: int) -> tuple[list[str], list[int]]:
    """Split texts that are too long into sentences, and sentences that are too long between words.

    Args:
        texts: The texts.
        processor: The model's processor.
        max_words: Maximum number of tokens of a piece, including the start and the end token. A single word with more
            tokens is not split.

    Returns:
        The pieces of all texts in order, and for each piece the index of its text. A text that fits is a single piece,
        unchanged.
    """
    pieces, text_of_piece = [], []
    for index, text in enumerate(texts):
        for piece in _pieces(text, processor, max_words):
            pieces.append(piece)
            text_of_piece.append(index)
    return pieces, text_of_piece


def _pieces(text: str, processor: TS2NetProcessor, max_words: int) -> list[str]:
    def fits(part: str) -> bool:
        tokens = processor.tokenizer(clean_text(part), truncation=False, verbose=False)["input_ids"]
        return len(tokens) <= max_words

    if fits(text):
        return [text]
    pieces: list[str] = []
    for sentence in _BETWEEN_SENTENCES.split(text.strip()):
        if fits(sentence):
            pieces.append(sentence)
            continue
        first, *others = sentence.split()
        pieces.append(first)
        for word in others:
            longer = f"{pieces[-1]} {word}"
            if fits(longer):
                pieces[-1] = longer
            else:
                pieces.append(word)
    return pieces
