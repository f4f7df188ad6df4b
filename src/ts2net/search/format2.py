"""Indexes of format 2, which kept all metadata of a video in one column as JSON."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .columns import metadata_arrays, metadata_names

_METADATA = "metadata"
_WINDOWS_A_BATCH = 1024


def metadata_names_of_format2(search: Any) -> list[str]:
    """All names of metadata, from a search over the table."""
    rows = search.where("number = 0").select([_METADATA]).limit(None).to_arrow()
    return sorted({name for text in rows[_METADATA].unique().to_pylist() for name in json.loads(text)})


def converted_batches(search: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows of the table with the columns of a schema."""
    for batch in search.limit(None).to_batches(batch_size=_WINDOWS_A_BATCH):
        metadata = [json.loads(text) for text in batch.column(_METADATA).to_pylist()]
        arrays = metadata_arrays(metadata, metadata_names(schema.names))
        yield pa.record_batch(
            [arrays[name] if name in arrays else batch.column(name) for name in schema.names], schema=schema
        )
