"""Cleaning of texts for CLIP's tokenizer. This module needs neither PyTorch nor transformers."""

import html

import ftfy


def clean_text(text: str) -> str:
    """Clean a text as OpenAI's CLIP and the released TS2-Net do before they lower-case and tokenise it.

    Wrongly decoded characters are repaired, curly quotes and ligatures replaced by plain characters, HTML entities
    unescaped (twice), and runs of white space collapsed.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


__all__ = ["clean_text"]
