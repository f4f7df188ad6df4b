"""Texts that are longer than the text transformer reads: cut off, or split into pieces that are scored one by one.

The score of a text in pieces is the mean of their scores. Where each sentence tells of another moment, each can then
find its own frames; the mean of their embeddings could not.
"""

import re
from collections.abc import Sequence
from typing import Literal

from ..processing_ts2net import TS2NetProcessor, clean_text

LongTexts = Literal["truncate", "split"]
"""`"truncate"` reads the beginning, as training does; `"split"` reads all, sentence by sentence."""

_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?;。！？])\s+")


def split_texts(texts: Sequence[str], processor: TS2NetProcessor, max_words: int) -> tuple[list[str], list[int]]:
    """Split the texts that are too long into their sentences, and a sentence that is too long between its words.

    Args:
        texts: The texts.
        processor: The model's processor.
        max_words: The most tokens of a piece, the start and the end token included. A single word that has more stays
            whole.

    Returns:
        The pieces of all texts in order, and for each the index of its text. A text that fits is its own piece,
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
