"""Conversion of older index formats. Format 2 stored metadata as JSON in one column; format 3 had no checksums."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .columns import CHECKSUM, FIRST_WINDOWS, metadata_arrays, metadata_names, row_checksums
from .database import all_rows

_METADATA = "metadata"  # column of format 2
_WINDOWS_A_BATCH = 1024


def metadata_names_of_older(search: Any, columns: list[str]) -> list[str]:
    """Return all names of metadata, also for format 2.

    Args:
        search: A search over the table.
        columns: Names of the columns of the table.
    """
    if _METADATA not in columns:
        return metadata_names(columns)
    rows = all_rows(search.where(FIRST_WINDOWS).select([_METADATA]))
    return sorted({name for text in rows[_METADATA].unique().to_pylist() for name in json.loads(text)})


def converted_batches(search: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield all rows of the table, converted to the columns of a schema."""
    for batch in search.limit(None).to_batches(batch_size=_WINDOWS_A_BATCH):
        arrays = {name: batch.column(name) for name in batch.schema.names}
        arrays[CHECKSUM] = row_checksums(batch)
        if _METADATA in arrays:
            metadata = [json.loads(text) for text in arrays[_METADATA].to_pylist()]
            arrays |= metadata_arrays(metadata, metadata_names(schema.names))
        yield pa.record_batch([arrays[name] for name in schema.names], schema=schema)
