"""A CLIP tokenizer made from the texts that it is to know.

Its vocabulary is laid out as CLIP's is: all bytes, each also as the end of a word, then what byte-pair encoding joins,
then the start and the end of a text. So it knows every word of these texts and can spell all others.
"""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

TEXT_LENGTH = 32
"""Tokens of the longest text."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_MAX_MERGES = 1000  # more than the words of the captions need


def train_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """Learn byte-pair merges from texts, and make a CLIP tokenizer of them."""
    letters = sorted(ByteLevel.alphabet())
    letters += [f"{letter}</w>" for letter in letters]
    learner = CLIPTokenizer().backend_tokenizer  # with CLIP's own cleaning and splitting
    # Ties between pairs are settled by the ids of their parts. Without ids from us, the trainer numbers the letters
    # that end words in random order, and the same texts give other merges each time.
    trainer = BpeTrainer(
        vocab_size=len(letters) + _MAX_MERGES,
        special_tokens=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*letters, *("".join(pair) for pair in merges), _START, _END]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_LENGTH)
