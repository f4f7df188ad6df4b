"""What the model looked at: selected patches, frame weights, token shift; as data and as a figure."""

from .drawing import DrawnFrame, draw_frame, drawn_frames, outline
from .explaining import Box, Explanation, explain, explain_frames, patch_boxes

__all__ = [
    "Box",
    "DrawnFrame",
    "Explanation",
    "draw_frame",
    "drawn_frames",
    "explain",
    "explain_frames",
    "outline",
    "patch_boxes",
]
