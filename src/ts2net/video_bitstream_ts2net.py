"""What the bytes of an H.264 or HEVC packet tell before it is decoded."""

import av


class Bitstream:
    """What the bytes of an H.264 or HEVC packet tell before it is decoded.

    Both are read in the form MP4 and Matroska use: units, each after its length.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        has_header = len(extradata) > 22 if codec == "hevc" else len(extradata) > 6
        self._codec = codec if has_header and extradata[0] == 1 else None
        self._needs_units = codec in ("h264", "hevc")
        if self._codec == "h264":
            self._length_bytes = (extradata[4] & 3) + 1
        elif self._codec == "hevc":
            self._length_bytes = (extradata[21] & 3) + 1
            # With temporal layers, a higher layer may refer to a picture that its own layer doesn't.
            self._one_layer = (extradata[21] >> 3) & 7 == 1

    def is_entry_point(self, packet: av.Packet) -> bool:
        """Whether decoding can start here: nothing shown after this picture refers to anything before it."""
        if not packet.is_keyframe:
            return False
        if self._codec == "h264":
            return all(unit & 31 == 5 for unit in self._slices(packet))  # IDR
        if self._codec == "hevc":
            return all(16 <= unit >> 1 <= 21 for unit in self._slices(packet))  # BLA, IDR, CRA
        return not self._needs_units

    def is_disposable(self, packet: av.Packet) -> bool:
        """Whether no other picture refers to this one."""
        if self._codec == "h264":
            return all(unit & 0x60 == 0 for unit in self._slices(packet))
        if self._codec == "hevc" and self._one_layer:
            return all(unit >> 1 < 16 and unit >> 1 & 1 == 0 for unit in self._slices(packet))
        return False

    def _slices(self, packet: av.Packet) -> list[int]:
        """The first byte of each unit with picture data; a lone 0xFF, which no test accepts, if there is none."""
        data = memoryview(packet)
        position, first_bytes = 0, []
        while position + self._length_bytes < len(data):
            length = int.from_bytes(data[position : position + self._length_bytes], "big")
            position += self._length_bytes
            unit = data[position]
            if (1 <= unit & 31 <= 5) if self._codec == "h264" else (unit >> 1 < 32):
                first_bytes.append(unit)
            position += length
        return first_bytes or [0xFF]
