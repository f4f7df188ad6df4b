"""Metadata of videos from a CSV file with a column `file` and a column for each metadata name."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .sources import VideoFile

_FILE_COLUMN = "file"


@dataclass(frozen=True)
class MatchedMetadata:
    """Rows of a metadata file, matched with videos.

    Args:
        rows: The metadata of each matched video, by id.
        unmatched: Files in rows that match none of the videos.
    """

    rows: Mapping[str, Mapping[str, str]]
    unmatched: Sequence[str]


def read_metadata(path: str | os.PathLike[str], videos: Sequence[VideoFile]) -> MatchedMetadata:
    """Read metadata of videos.

    Args:
        path: A CSV file with a column `file` and any other columns. A file is given by its path, which may be relative
            to the folder of the CSV file, by its name alone, or by the id of a clip in a tar file.
        videos: The videos.

    Raises:
        ValueError: If the format is wrong, a file is listed twice, none of the rows match a video, or a row matches
            several videos.
        OSError: If the file can't be read.
    """
    rows = _read(os.fspath(path))
    folder = Path(path).absolute().parent
    by_path = {os.path.abspath(os.path.join(folder, name)): name for name in rows}
    namesakes: dict[str, str] = {}
    matched: dict[str, Mapping[str, str]] = {}
    used = set()
    for video in videos:
        name = by_path.get(video.video_id)
        short = os.path.basename(video.path) if video.member is None else video.member
        if name is None and short in rows:
            other = namesakes.setdefault(short, video.video_id)
            if other != video.video_id:
                raise ValueError(
                    f"{path}: {short!r} may be {other} or {video.video_id}: write the path of the one that is meant"
                )
            name = short
        if name is not None:
            matched[video.video_id] = rows[name]
            used.add(name)
    if rows and not matched:
        raise ValueError(f"{path}: no row is about one of the {len(videos)} videos; {next(iter(rows))!r} is not there")
    return MatchedMetadata(matched, [name for name in rows if name not in used])


def _read(path: str) -> dict[str, dict[str, str]]:
    """Return the other columns of each row, by the value of the column `file`."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            if _FILE_COLUMN not in columns or len(set(columns)) < len(columns):
                raise ValueError(
                    f"{path}: expected a CSV file with a column {_FILE_COLUMN!r} and others of different names, its "
                    f"first line has {', '.join(map(repr, columns)) or 'nothing'}"
                )
            for row in reader:
                name = row.pop(_FILE_COLUMN)
                if None in row or None in row.values():
                    raise ValueError(f"{path}, line {reader.line_num}: expected {len(columns)} values")
                if name in rows:
                    raise ValueError(f"{path}, line {reader.line_num}: {name!r} is there twice")
                rows[name] = cast(dict[str, str], row)
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file ({error})") from error
    return rows
