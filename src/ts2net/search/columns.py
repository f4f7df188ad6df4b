"""Columns of the table of windows, and conversion of windows to rows.

Each metadata name has its own column, so that the database can filter by it. Users choose these names, so the name of
the column encodes their bytes in characters that need no quoting. The encoding is reversible.
"""

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from .about import About
from .records import IndexedVideo

ABOUT_KEY = b"ts2net"
CHECKSUM = "checksum"
FIRST_WINDOWS = "number = 0"  # SQL condition that selects one row per video
VECTOR_COLUMN = "mean"
_METADATA_PREFIX = "meta_"
_TIMES = ("start", "end", "duration")


def windows_schema(about: About, metadata_names: Iterable[str] = ()) -> pa.Schema:
    """Return the schema of the table of windows. Its metadata store the model and settings of the index."""
    return pa.schema(
        [
            pa.field("window", pa.string(), nullable=False),  # <key>-<number>
            pa.field("video", pa.string(), nullable=False),  # see id_to_text
            pa.field("key", pa.string(), nullable=False),  # see video_key
            pa.field("number", pa.int32(), nullable=False),  # number of the window in its video, from 0
            pa.field("signature", pa.string(), nullable=False),  # see join_signature
            pa.field("duration", pa.float64(), nullable=False),  # seconds of the whole video
            pa.field("start", pa.float64(), nullable=False),  # seconds
            pa.field("end", pa.float64(), nullable=False),
            pa.field("frame_times", pa.list_(pa.float32()), nullable=False),  # seconds
            pa.field("frames", pa.list_(pa.list_(pa.float16(), about.dim)), nullable=False),  # of length 1
            pa.field(VECTOR_COLUMN, pa.list_(pa.float16(), about.dim), nullable=False),  # mean of the frames
            pa.field("thumbnail", pa.binary(), nullable=False),  # JPEG
            pa.field(CHECKSUM, pa.uint32(), nullable=False),  # see row_checksums
            *metadata_fields(metadata_names),
        ],
        metadata={ABOUT_KEY: about.to_json()},
    )


def row_checksums(rows: pa.RecordBatch) -> pa.Array:
    """Compute the CRC-32 of each window's times, embeddings and thumbnail, to detect damage.

    Names, signature and metadata are not included, because they may change after a video is indexed.

    Args:
        rows: Rows of the table of windows.
    """
    starts, ends, durations = (rows.column(name).to_numpy(zero_copy_only=False) for name in _TIMES)
    lists = [_row_bytes(rows.column(name)) for name in ("frame_times", "frames", VECTOR_COLUMN)]
    thumbnails = rows.column("thumbnail").to_pylist()
    sums = []
    for number in range(rows.num_rows):
        total = zlib.crc32(struct.pack("<3d", starts[number], ends[number], durations[number]))
        for of_rows in lists:
            total = zlib.crc32(of_rows[number], total)
        sums.append(zlib.crc32(thumbnails[number], total))
    return pa.array(sums, pa.uint32())


def _row_bytes(column: pa.Array) -> list[bytes]:
    """Return the values of each row as bytes. The column contains lists, or lists of lists, of numbers."""
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        offsets = np.arange(len(column) + 1) * width
        flat = column.flatten()
    else:
        flat = column.flatten()
        offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
        if pa.types.is_fixed_size_list(flat.type):
            offsets = offsets * flat.type.list_size
            flat = flat.flatten()
    values = np.ascontiguousarray(flat.to_numpy(zero_copy_only=False))
    return [values[first:last].tobytes() for first, last in pairwise(offsets)]


def metadata_fields(names: Iterable[str]) -> list[pa.Field]:
    """Return the columns of metadata names. A video without metadata of a name has a null."""
    return [pa.field(metadata_column(name), pa.string()) for name in names]


def metadata_column(name: str) -> str:
    """Return the column of a name. Bytes other than a to z and digits become `_` and two hexadecimal digits."""
    encoded = name.encode("utf-8", "surrogatepass")
    return _METADATA_PREFIX + re.sub(r"[^a-z0-9]", lambda byte: f"_{ord(byte[0]):02x}", encoded.decode("latin-1"))


def metadata_names(columns: Iterable[str]) -> list[str]:
    """Return the metadata names of those columns that contain metadata."""
    encoded = [column.removeprefix(_METADATA_PREFIX) for column in columns if column.startswith(_METADATA_PREFIX)]
    texts = [re.sub(r"_([0-9a-f]{2})", lambda byte: chr(int(byte[1], 16)), text) for text in encoded]
    return [text.encode("latin-1").decode("utf-8", "surrogatepass") for text in texts]


def metadata_rows(columns: pa.Table) -> Iterator[dict[str, str]]:
    """Yield the metadata of each row. The table may have other columns too."""
    names = metadata_names(columns.column_names)
    values = [columns[metadata_column(name)].to_pylist() for name in names]
    for number in range(columns.num_rows):
        row = zip(names, (column[number] for column in values), strict=True)
        yield {name: id_from_text(text) for name, text in row if text is not None}


def metadata_arrays(metadata: Sequence[Mapping[str, str]], names: Iterable[str]) -> dict[str, pa.Array]:
    """Return the columns of some metadata names, with one row for each mapping."""
    return {
        metadata_column(name): pa.array(
            [id_to_text(row[name]) if name in row else None for row in metadata], pa.string()
        )
        for name in names
    }


def video_key(video_id: str) -> str:
    """Return the key of a video: a hash of its id in 16 hexadecimal digits, which need no quoting in SQL."""
    return hashlib.blake2b(video_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def id_to_text(video_id: str) -> str:
    """Encode any string as valid UTF-8 text for a table, reversibly.

    Python represents a byte of a file name that is not valid UTF-8 by a surrogate. It is encoded as NUL and the byte's
    two hexadecimal digits. NUL itself and all other surrogates are encoded as NUL, `u` and four hexadecimal digits.
    """
    return re.sub("[\0\ud800-\udfff]", lambda half: escaped_half(ord(half[0])), video_id)


def escaped_half(code: int) -> str:
    """Return the escape sequence of NUL or of a surrogate."""
    return f"\0{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else f"\0u{code:04x}"


def id_from_text(text: str) -> str:
    """Decode a text of `id_to_text`."""
    return re.sub("\0(?:u([0-9a-f]{4})|([0-9a-f]{2}))", _half, text)


def _half(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16) if escape[1] else 0xDC00 | int(escape[2], 16))


def join_signature(signature: str, content: str | None) -> str:
    """Join the signature of a file and the digest of its bytes, if known, to the text that the index stores."""
    return signature if content is None else f"{signature}#{content}"


def split_signature(text: str) -> tuple[str, str | None]:
    """Split a text of `join_signature` into signature and digest."""
    signature, _, content = text.partition("#")
    return signature, content or None


def window_rows(videos: Sequence[IndexedVideo], schema: pa.Schema) -> pa.Table:
    """Convert the windows of videos to rows. The schema must have columns for all of their metadata."""
    pairs = [(video, number) for video in videos for number in range(len(video.windows))]
    windows = [window for video in videos for window in video.windows]
    keys = {video.video_id: video_key(video.video_id) for video in videos}
    lengths = [len(window.frames) for window in windows]
    frames = np.concatenate([np.asarray(window.frames, dtype=np.float16) for window in windows])  # (all frames, D)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(frames.ravel()), frames.shape[1])
    means = np.stack(
        [np.asarray(window.frames, dtype=np.float16).mean(axis=0, dtype=np.float32) for window in windows]
    )
    columns = {
        "window": [f"{keys[video.video_id]}-{number:06d}" for video, number in pairs],
        "video": [id_to_text(video.video_id) for video, _ in pairs],
        "key": [keys[video.video_id] for video, _ in pairs],
        "number": [number for _, number in pairs],
        "signature": [join_signature(video.signature, video.content) for video, _ in pairs],
        "duration": [video.duration for video, _ in pairs],
        "start": [window.start for window in windows],
        "end": [window.end for window in windows],
        "frame_times": [list(window.frame_times) for window in windows],
        "frames": pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), flat),
        VECTOR_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(means.astype(np.float16).ravel()), means.shape[1]),
        "thumbnail": [window.thumbnail for window in windows],
    } | metadata_arrays([video.metadata for video, _ in pairs], metadata_names(schema.names))
    plain = pa.schema([field for field in schema if field.name != CHECKSUM])
    batch = pa.record_batch(
        [
            pa.array(columns[field.name], field.type) if isinstance(columns[field.name], list) else columns[field.name]
            for field in plain
        ],
        schema=plain,
    )
    arrays = {CHECKSUM: row_checksums(batch)} | {name: batch.column(name) for name in plain.names}
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def renamed_rows(rows: pa.Table, videos: Mapping[str, tuple[str, str]]) -> pa.Table:
    """Return windows with new names and signatures of their videos.

    Args:
        rows: The windows, with all columns.
        videos: New name and new text of [`join_signature`] of each video, by its previous key.
    """
    olds, numbers = rows["key"].to_pylist(), rows["number"].to_pylist()
    keys = [video_key(videos[old][0]) for old in olds]
    new = {
        "window": [f"{key}-{number:06d}" for key, number in zip(keys, numbers, strict=True)],
        "video": [id_to_text(videos[old][0]) for old in olds],
        "key": keys,
        "signature": [videos[old][1] for old in olds],
    }
    for column, values in new.items():
        field = rows.schema.field(column)
        rows = rows.set_column(rows.schema.get_field_index(column), field, pa.array(values, field.type))
    return rows
