"""Texts as CLIP's tokenizer takes them. It needs neither PyTorch nor transformers."""

import html

import ftfy


def clean_text(text: str) -> str:
    """Clean a text as OpenAI's CLIP and the released TS2-Net do before they lower-case and tokenise it.

    Encodings gone wrong are mended, curly quotes and ligatures made plain, HTML entities resolved (twice), and runs of
    white space joined.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


__all__ = ["clean_text"]
