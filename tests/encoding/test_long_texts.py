"""Splitting of long texts between sentences, and of long sentences between words."""

from support.tiny_models import tiny_processor
from ts2net.encoding.long_texts import split_texts


def test_only_long_texts_are_split_and_each_piece_knows_its_text() -> None:
    """Only long texts are split. In the tiny tokenizer, each letter and punctuation mark is a token."""
    texts = ["a dog", "ab cd. efgh; ij kl mnopq rs! t", "abc", "abcdefghijkl mn"]
    pieces, text_of_piece = split_texts(texts, tiny_processor(), 8)
    assert pieces == ["a dog", "ab cd.", "efgh;", "ij kl", "mnopq", "rs!", "t", "abc", "abcdefghijkl", "mn"]
    assert text_of_piece == [0, 1, 1, 1, 1, 1, 1, 2, 3, 3]


def test_a_text_that_fits_stays_as_it_is() -> None:
    """A text that fits keeps its sentences and white space."""
    assert split_texts(["a.  b! c", ""], tiny_processor(), 16) == (["a.  b! c", ""], [0, 1])
