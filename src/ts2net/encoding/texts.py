"""Encoding of texts to embeddings."""

from collections.abc import Sequence

import torch

from ..modeling_ts2net import TS2NetModel, cat_texts
from ..processing_ts2net import TS2NetProcessor

_TEXTS_A_BATCH = 256


@torch.inference_mode()
def encode_texts(
    model: TS2NetModel, processor: TS2NetProcessor, texts: Sequence[str], *, max_words: int | None = None
) -> torch.Tensor:
    """Encode texts.

    Args:
        model: The model, in evaluation mode. The caller may use autocast.
        processor: The model's processor.
        texts: The texts.
        max_words: Number of tokens to truncate or pad texts to, in order to encode them in batches. `None` encodes
            each text separately and unpadded, so that the last bits of its embedding do not depend on other texts.

    Returns:
        Input of [`TS2NetModel.similarity`], float32 on the CPU, not normalised: text embeddings `(Q, D)`, or with
        word-token interaction word embeddings `(Q, words, D)`; `(0, 0)` without texts.
    """
    if not texts:
        return torch.empty(0, 0)
    if max_words is None:
        batches = [processor(text=text) for text in texts]
    else:
        batches = [
            processor(
                text=list(texts[first : first + _TEXTS_A_BATCH]),
                padding="max_length",
                truncation=True,
                max_length=max_words,
            )
            for first in range(0, len(texts), _TEXTS_A_BATCH)
        ]
    embeds = []
    for batch in batches:
        tokens = batch.to(model.device)
        outputs = model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        embeds.append(outputs.matching_embeds.float().cpu())
    return cat_texts(embeds)
