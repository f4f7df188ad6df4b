"""How a frame is turned for showing, by its display matrix."""

from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType


class Orientation(NamedTuple):
    """How to turn a stored picture for showing: swap rows and columns, then flip rows, then flip columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Turns pixels `(..., height, width, 3)`."""
        if self.transpose:
            rgb = rgb.swapaxes(-3, -2)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in (self.flip_rows, self.flip_columns))
        return np.ascontiguousarray(rgb[..., rows, columns, :])


def orientation(frame: av.VideoFrame) -> Orientation:
    """How a frame is turned for showing.

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
        # PyAV reads all side data of a frame or none, and fails at a kind that it has no name for, such as EXIF. So
        # those are taken off, by a filter of FFmpeg's.
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
    """The side data of a frame.

    `frame.side_data` ties the frame to itself: its memory then waits for Python's collector of cycles, which knows
    nothing of its size, and what a decoder finds in memory it reuses depends on when that runs.
    """
    container: Any = SideDataContainer  # PyAV's annotation has no constructor
    return container(frame)
