"""Encoding of texts, singly and in batches."""

import torch

from support.tiny_models import tiny_model, tiny_processor
from ts2net.encoding import texts
from ts2net.encoding.texts import encode_texts

TEXTS = ["a dog", "a", "two cats on a red roof 0123456789", "rain"]


def test_a_text_alone_does_not_depend_on_the_others() -> None:
    model, processor = tiny_model(), tiny_processor()
    together = encode_texts(model, processor, TEXTS)
    assert together.shape == (4, model.config.projection_dim)
    for text, embed in zip(TEXTS, together, strict=True):
        assert torch.equal(encode_texts(model, processor, [text])[0], embed)
        with torch.inference_mode():
            assert torch.equal(model.get_text_features(**processor(text=text)).pooler_output[0], embed)


def test_many_at_a_time_are_the_same_up_to_rounding(monkeypatch) -> None:
    """Padded batches give the same embeddings up to rounding unless `max_words` truncates a text."""
    monkeypatch.setattr(texts, "_TEXTS_A_BATCH", 3)
    model, processor = tiny_model(), tiny_processor()
    many = encode_texts(model, processor, TEXTS, max_words=16)
    torch.testing.assert_close(many, encode_texts(model, processor, TEXTS))
    cut = encode_texts(model, processor, TEXTS, max_words=4)
    assert torch.allclose(cut[1], many[1], atol=1e-5)
    assert not torch.allclose(cut[2], many[2], atol=1e-3)


def test_no_texts_are_no_embeddings() -> None:
    assert encode_texts(tiny_model(), tiny_processor(), []).shape == (0, 0)
