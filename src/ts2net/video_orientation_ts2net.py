"""Orientation of a frame for display, from its display matrix."""

from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType


class Orientation(NamedTuple):
    """Transformation of a stored picture for display: swap rows and columns, then flip rows, then flip columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Transform pixels `(..., height, width, 3)`."""
        if self.transpose:
            rgb = rgb.swapaxes(-3, -2)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in (self.flip_rows, self.flip_columns))
        return np.ascontiguousarray(rgb[..., rows, columns, :])


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return the orientation of a frame for display.

    The display matrix is rounded to the nearest of the eight that map a pixel grid to itself.
    """
    matrix: Any = _display_matrix(frame)
    if matrix is None:
        return Orientation(False, False, False)
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype="=i4").tolist()  # x' = a x + c y,  y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def _display_matrix(frame: av.VideoFrame) -> Any:
    try:
        return _side_data(frame).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV reads all side data of a frame or none, and fails for a kind that it has no name for, such as EXIF. An
        # FFmpeg filter removes these kinds first.
        graph = av.filter.Graph()
        buffer = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1)
        )
        named = {kind.value for kind in SideDataType}
        deletions = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in range(64) if kind not in named]
        graph.link_nodes(buffer, *deletions, graph.add("buffersink")).configure()
        graph.vpush(frame)
        return _side_data(graph.vpull()).get("DISPLAYMATRIX")


def _side_data(frame: av.VideoFrame) -> SideDataContainer:
    """Return the side data of a frame, without `frame.side_data`, which creates a reference cycle.

    The memory of such a frame is only freed by Python's cyclic garbage collector, which doesn't know its size. And
    what a decoder finds in memory that it reuses would depend on when the collector runs.
    """
    container: Any = SideDataContainer  # PyAV's annotation has no constructor
    return container(frame)
