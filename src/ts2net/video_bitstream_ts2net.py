"""Reader of the headers of H.264 and HEVC packets, without decoding them."""

from dataclasses import dataclass

import av

# The H.264 profiles whose sequence parameter sets have chroma fields (ITU-T H.264, 7.3.2.1.1).
_PROFILES_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_IDR = 5
_SLICE_HEADER_BYTES = 32  # enough to reach the number of the picture


class Bitstream:
    """Reader of the headers of a stream's packets, without decoding them.

    H.264 and HEVC packets are read in the form that MP4 and Matroska use: NAL units, each preceded by its length.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        has_header = len(extradata) > 22 if codec == "hevc" else len(extradata) > 6
        self._codec = codec if has_header and extradata[0] == 1 else None
        self._needs_units = codec in ("h264", "hevc")
        self._numbering: _Numbering | None = None
        if self._codec == "h264":
            self._length_bytes = (extradata[4] & 3) + 1
            self._numbering = _numbering(extradata)
        elif self._codec == "hevc":
            self._length_bytes = (extradata[21] & 3) + 1
            # With temporal layers, a higher layer may refer to a picture that no picture of its own layer refers to.
            self._one_layer = (extradata[21] >> 3) & 7 == 1

    def is_entry_point(self, packet: av.Packet) -> bool:
        """Whether decoding can start at a packet: no picture shown after it refers to a picture before it."""
        if not packet.is_keyframe:
            return False
        if self._codec == "h264":
            return all(unit & 31 == _IDR for unit in self._slices(packet))
        if self._codec == "hevc":
            return all(16 <= unit >> 1 <= 21 for unit in self._slices(packet))  # BLA, IDR, CRA
        return not self._needs_units

    def is_disposable(self, packet: av.Packet) -> bool:
        """Whether no other picture refers to the picture of a packet."""
        if self._numbering:
            return all(unit & 0x60 == 0 for unit in self._slices(packet))
        if self._codec == "hevc" and self._one_layer:
            return all(unit >> 1 < 16 and unit >> 1 & 1 == 0 for unit in self._slices(packet))
        return False

    def references(self) -> "References":
        """Create a tracker of reference pictures, to be used from an entry point on."""
        return References(self)

    def number(self, packet: av.Packet) -> tuple[int, int] | None:
        """Return the first byte of an H.264 picture and its `frame_num`, or None if they can't be read."""
        units = self._units(packet) if self._numbering else []
        if not self._numbering or not units:
            return None
        try:
            return units[0][0], self._numbering.number_of(units[0])
        except ValueError:
            return None

    @property
    def highest_number(self) -> int:
        """The highest `frame_num`, after which numbering restarts at 0."""
        return (1 << self._numbering.bits) - 1 if self._numbering else 0

    def _slices(self, packet: av.Packet) -> list[int]:
        """Return the first byte of each unit with picture data, or a single 0xFF, which fails every check, if none."""
        return [unit[0] for unit in self._units(packet)] or [0xFF]

    def _units(self, packet: av.Packet) -> list[memoryview]:
        """Return the beginning of each unit with picture data."""
        data = memoryview(packet)
        position, units = 0, []
        while position + self._length_bytes < len(data):
            length = int.from_bytes(data[position : position + self._length_bytes], "big")
            position += self._length_bytes
            unit = data[position]
            if (1 <= unit & 31 <= 5) if self._codec == "h264" else (unit >> 1 < 32):
                units.append(data[position : position + min(length, _SLICE_HEADER_BYTES)])
            position += length
        return units


class References:
    """Detector of missing reference pictures.

    An H.264 decoder replaces a missing reference picture by another picture. Which one depends on all pictures in
    between, including the disposable ones. HEVC pictures name every picture that they refer to, so their result does
    not depend on disposable pictures.
    """

    def __init__(self, bitstream: Bitstream) -> None:
        self._bitstream = bitstream
        self._last: int | None = None  # the number of the last reference picture

    def lack_one_before(self, packet: av.Packet) -> bool:
        """Whether a reference picture is missing between the previous packets and this one."""
        unit_and_number = self._bitstream.number(packet)
        if unit_and_number is None:
            return False
        unit, number = unit_and_number
        last = 0 if unit & 31 == _IDR else self._last
        if unit & 0x60 or unit & 31 == _IDR:
            self._last = number
        return last is not None and number not in (last, last + 1 if last < self._bitstream.highest_number else 0)


@dataclass(frozen=True)
class _Numbering:
    """Format of the picture number in H.264: its number of bits, and whether a colour plane id precedes it."""

    bits: int
    has_planes: bool

    def number_of(self, unit: memoryview) -> int:
        """Read the `frame_num` of a slice.

        Raises:
            ValueError: If the unit is too short.
        """
        bits = _Bits(bytes(unit[1:]))
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            bits.take_coded()
        bits.take(2 if self.has_planes else 0)
        return bits.take(self.bits)


def _numbering(extradata: bytes) -> _Numbering | None:
    """Read the format from the only sequence parameter set. None if there are several sets, or it can't be read."""
    if extradata[5] & 31 != 1:
        return None
    length = int.from_bytes(extradata[6:8], "big")
    bits = _Bits(extradata[9 : 8 + length])  # after the type of the unit
    try:
        profile, planes = bits.take(8), 0
        bits.take(16)
        bits.take_coded()  # seq_parameter_set_id
        if profile in _PROFILES_WITH_CHROMA:
            chroma = bits.take_coded()
            planes = bits.take(1) if chroma == 3 else 0
            bits.take_coded()  # depths of luma and chroma
            bits.take_coded()
            bits.take(1)
            if bits.take(1):
                for number in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _pass_scaling_list(bits, 16 if number < 6 else 64)
        return _Numbering(bits.take_coded() + 4, bool(planes))
    except ValueError:
        return None


def _pass_scaling_list(bits: "_Bits", size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.take_coded()
            following = (last + (code + 1 >> 1 if code & 1 else -(code >> 1))) % 256
        last = following or last


class _Bits:
    """Bit reader of a unit, without its emulation prevention bytes."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Read the next bits as a number.

        Raises:
            ValueError: If fewer than `count` bits are left.
        """
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def take_coded(self) -> int:
        """Read the next number in Exp-Golomb code.

        Raises:
            ValueError: If the unit ends before the number does.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
