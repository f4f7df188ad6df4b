"""Export of found moments as clips, tables and edit lists."""

import csv
from pathlib import Path

import pytest

from support.video_files import decode_from_start, write_video
from ts2net.search.exporting import export_clips, export_edit_list, export_table
from ts2net.search.hits import Hit


def hit(video: str, start: float = 1.0) -> Hit:
    return Hit(video, start, start + 2.0, start, 12.5, {}, "0-0", b"", index="index")


def test_clips_are_cut_out_and_what_is_gone_is_said(tmp_path: Path):
    video = str(write_video(tmp_path / "a dog.mp4", frames=120, options={"g": "24"}))
    exported = list(export_clips([("a dog", [hit(video), hit(str(tmp_path / "gone.mp4"))])], tmp_path / "clips"))
    assert exported == [tmp_path / "clips/01-a dog-1.0s.mp4", f"{tmp_path}/gone.mp4: its file is gone"]
    assert 48 <= len(decode_from_start(str(exported[0]))) <= 53


def test_a_table_has_a_row_for_each_moment_and_no_formula(tmp_path: Path):
    export_table([("=HYPERLINK(1)", [hit("/clips/ü.mp4"), hit("/b.mp4", 4.0)])], tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["video"], row["start"], row["end"]) for row in rows] == [
        ("1", "/clips/ü.mp4", "1.000", "3.000"),
        ("2", "/b.mp4", "4.000", "6.000"),
    ]
    assert rows[0]["text"] == "'=HYPERLINK(1)"


def test_an_edit_list_puts_moments_one_after_another(tmp_path: Path):
    export_edit_list([("a\nline", [hit("/a.mp4", 3599.2), hit("/b.mp4")])], tmp_path / "found.edl", "found")
    lines = (tmp_path / "found.edl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "TITLE: found"
    assert lines[3] == "001  AX       V     C        00:59:59:05 01:00:01:05 00:00:00:00 00:00:02:00"
    assert lines[4:7] == ["* FROM CLIP NAME: a.mp4", "* SOURCE FILE: /a.mp4", "* COMMENT: a line"]
    assert lines[8] == "002  AX       V     C        00:00:01:00 00:00:03:00 00:00:02:00 00:00:04:00"
    with pytest.raises(ValueError, match="at most 999 moments, got 1000"):
        export_edit_list([("a", [hit("/a.mp4")] * 1000)], tmp_path / "found.edl", "found")
