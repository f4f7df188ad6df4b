"""Training of a CLIP tokenizer on texts.

The vocabulary has the same layout as CLIP's: all bytes, each also as the end of a word, then the merges of byte-pair
encoding, then the start and the end token. So words of the texts are single tokens, and any other word can be encoded.
"""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

TEXT_LENGTH = 32
"""Maximum number of tokens of a text."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_MAX_MERGES = 1000  # more than the words of the captions need


def train_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """Learn byte-pair merges from texts, and create a CLIP tokenizer with them."""
    letters = sorted(ByteLevel.alphabet())
    letters += [f"{letter}</w>" for letter in letters]
    learner = CLIPTokenizer().backend_tokenizer  # with CLIP's normalizer and pre-tokenizer
    # Ties between pairs are broken by the ids of their parts. Without given ids, the trainer numbers the letters that
    # end words in random order, and the same texts give different merges each time.
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
