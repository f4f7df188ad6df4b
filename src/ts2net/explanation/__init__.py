"""Explanation of a score: selected patches, frame weights and token shift, as data and as a figure."""

from .drawing import DrawnFrame, draw_frame, drawn_frames, found_words, outline
from .explaining import Box, Explanation, FoundWord, explain, explain_frames, patch_boxes

__all__ = [
    "Box",
    "DrawnFrame",
    "Explanation",
    "FoundWord",
    "draw_frame",
    "drawn_frames",
    "explain",
    "explain_frames",
    "found_words",
    "outline",
    "patch_boxes",
]
