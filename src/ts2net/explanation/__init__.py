"""What the model looked at: selected patches, frame weights, token shift; as data and as a figure."""

from .explaining import Box, Explanation, draw_frame, explain, explain_frames, outline, patch_boxes

__all__ = ["Box", "Explanation", "draw_frame", "explain", "explain_frames", "outline", "patch_boxes"]
