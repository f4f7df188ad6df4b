"""A tiled HEIC picture, as phones write them. FFmpeg reads each tile as a video stream of one frame."""

import io
import struct

import av

from .video_files import encoded


def tiled_heic(side: int = 64, rows: int = 2, columns: int = 3) -> bytes:
    """Create a picture of `rows` by `columns` square tiles of `side` pixels."""
    # With B-frames, x265 returns an uninitialised decoding time for a single picture.
    x265 = {"x265-params": "log-level=none:bframes=0"}
    with av.open(
        io.BytesIO(encoded(frames=1, codec="libx265", size=(side, side), container="mp4", options=x265))
    ) as c:
        tile, parameters = bytes(next(c.demux(c.streams.video[0]))), c.streams.video[0].codec_context.extradata
    grid, tiles = 1, list(range(2, 2 + rows * columns))
    items = [(grid, b"grid"), *((item, b"hvc1") for item in tiles)]
    names = b"".join(_full(b"infe", struct.pack(">HH4sx", item, 0, kind), version=2) for item, kind in items)
    properties = [
        _box(b"hvcC", parameters),
        _full(b"ispe", struct.pack(">II", side, side)),
        _full(b"ispe", struct.pack(">II", side * columns, side * rows)),
    ]
    of_items = [struct.pack(">HBB", grid, 1, 3), *(struct.pack(">HBBB", item, 2, 0x81, 2) for item in tiles)]
    description = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, side * columns, side * rows)
    kind = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

    def meta(position: int) -> bytes:
        """Create the metadata of tiles that are stored from a position on."""
        located = [struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(description))]  # within idat
        for number, item in enumerate(tiles):
            located.append(struct.pack(">HHHHII", item, 0, 0, 1, position + number * len(tile), len(tile)))
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">4x4s12xx", b"pict"))
            + _full(b"pitm", struct.pack(">H", grid))
            + _full(b"iinf", struct.pack(">H", len(items)) + names)
            + _full(b"iref", _box(b"dimg", struct.pack(f">HH{len(tiles)}H", grid, len(tiles), *tiles)))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(properties))
                + _full(b"ipma", struct.pack(">I", len(items)) + b"".join(of_items)),
            )
            + _box(b"idat", description)
            + _full(b"iloc", b"\x44\x00" + struct.pack(">H", len(items)) + b"".join(located), version=1),
        )

    return kind + meta(len(kind) + len(meta(0)) + 8) + _box(b"mdat", tile * len(tiles))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + content)
