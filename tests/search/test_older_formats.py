"""Indexes of older formats are converted by the next write. Opening format 2 fails and names the command."""

import json
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from support.search_indexes import about_of, make_index, random_video, rows_of, windows_table
from support.tiny_models import tiny_model
from ts2net.search.about import AboutError
from ts2net.search.columns import ABOUT_KEY
from ts2net.search.repairing import check_index
from ts2net.search.store import Store


def as_format2(index: Path) -> None:
    """Convert an index to format 2, which stores all metadata of a video in one JSON column."""
    rows = windows_table(index).to_arrow()
    metadata = [json.dumps(row["metadata"]) for row in rows_of(index)]
    about = json.loads(rows.schema.metadata[ABOUT_KEY]) | {"format": 2}
    table = rows.sort_by("window").select([name for name in rows.column_names if not name.startswith("meta_")])
    table = table.append_column(pa.field("metadata", pa.string(), nullable=False), pa.array(metadata, pa.string()))
    table = table.replace_schema_metadata({ABOUT_KEY: json.dumps(about)})
    lancedb.connect(str(index)).create_table("windows", data=table, mode="overwrite")


def test_a_write_converts_it_and_loses_nothing(tmp_path: Path):
    model, index = tiny_model(), tmp_path / "index"
    labels = [{"kind": "dog", "year": "1999"}, {"kind": "cat", "o'clock": 'a "b" \u20ac'}, {}]
    make_index(index, model, [random_video(f"/{seed}.mp4", seed, metadata=row) for seed, row in enumerate(labels)])
    before = rows_of(index)
    as_format2(index)

    with pytest.raises(AboutError, match=r"an index of format 2.*`ts2net index --out .*index` converts it"):
        Store.open(index)
    with Store.write(index, about_of(model, "tiny")):
        pass
    assert rows_of(index) == before
    assert Store.open(index).snapshot().metadata_names() == ["kind", "o'clock", "year"]


@pytest.mark.slow
def test_an_index_without_checksums_gets_them(tmp_path: Path):
    model, index = tiny_model(), tmp_path / "index"
    names = ["/a.mp4", "/b.mp4", "/c.mp4"]
    make_index(index, model, [random_video(name, seed) for seed, name in enumerate(names)])
    before = rows_of(index)
    rows = windows_table(index).to_arrow().drop_columns(["checksum"])
    about = json.loads(rows.schema.metadata[b"ts2net"]) | {"format": 3}
    lancedb.connect(index).create_table(
        "windows", data=rows.replace_schema_metadata({"ts2net": json.dumps(about)}), mode="overwrite"
    )
    lancedb.connect(index).drop_table("names")
    assert Store.open(index).snapshot().video_ids() == names  # readable without conversion
    assert check_index(index).unchecked == 15
    with Store.write(index):
        pass
    assert rows_of(index) == before
    assert check_index(index).unchecked == 0
    assert {video.windows for video in Store.open(index).noted().values()} == {5}
