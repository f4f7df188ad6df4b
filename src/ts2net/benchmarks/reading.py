"""Strict reading of annotation files: an error names the file and line, or the entry of a JSON file.

An id is used later as the name of files that are read and written. It is checked when it is read, so that no row has
an id that leads out of a folder.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, TypeVar

T = TypeVar("T")

JSON_NAMES: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
"""JSON names of Python types, for messages."""


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the location and the text of each line that is not blank.

    Raises:
        ValueError: If the file is not UTF-8.
    """
    # Split at line feeds only, because str.splitlines also splits a sentence at rare Unicode separators.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the location and the fields of each row, by the column names in the first line. Other columns are allowed.

    Raises:
        ValueError: If the file is not UTF-8, a column is missing, or a row has more or fewer fields than the first.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = next(reader, [])
        if missing := [column for column in columns if column not in names]:
            raise ValueError(f"{path}:1: expected a column {missing[0]!r}, found {short_repr(names)}")
        for fields in reader:
            location = f"{path}:{reader.line_num}"
            if fields and len(fields) != len(names):
                raise ValueError(f"{location}: expected {len(names)} fields, one for each column, found {len(fields)}")
            if fields:
                yield location, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If the file is not UTF-8 or not JSON, or an object has a repeated key.
    """
    return parse_json(_text(path), str(path), lines=True)


def parse_json(text: str, location: str, *, lines: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: The JSON.
        location: The file, or the line of a file, that holds the JSON.
        lines: Whether messages name the line within the JSON.

    Raises:
        ValueError: If the text is not JSON, or an object has a repeated key.
    """

    def distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            (repeated, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{location}: {short_repr(repeated)} appears twice in one object")
        return value

    try:
        return json.loads(text, object_pairs_hook=distinct_names)
    except json.JSONDecodeError as error:
        where = f"{location}:{error.lineno}" if lines else location
        raise ValueError(f"{where}: not JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise ValueError(f"{location}: nested too deeply") from error


def expect(value: object, kind: type[T], location: str) -> T:
    """Check the type of a value of a JSON file and return the value.

    Raises:
        ValueError: If the value is of another type.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{location}: expected {JSON_NAMES[kind]}, found {short_repr(value)}")
    return value


def field(entry: object, name: str, kind: type[T], location: str) -> T:
    """Return the field `name` of an object of a JSON file.

    Raises:
        ValueError: If `entry` is not an object, the field is missing, or the field is of another type.
    """
    entry = expect(entry, dict, location)
    if name not in entry:
        raise ValueError(f"{location}: expected a field {name!r}, found {short_repr(list(entry))}")
    return expect(entry[name], kind, f"{location}.{name}")


def distinct_ids(located: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Check the ids of a split.

    Args:
        located: Location and value of each id.

    Returns:
        The location of each id, in the same order.

    Raises:
        ValueError: If an id is invalid or repeated.
    """
    locations: dict[str, str] = {}
    for location, value in located:
        video_id = check_id(value, location)
        if video_id in locations:
            raise ValueError(f"{location}: video id {video_id!r} is repeated, first at {locations[video_id]}")
        locations[video_id] = location
    return locations


def check_id(value: object, location: str) -> str:
    """Check that an id is a plain file name on any operating system, and return it.

    Raises:
        ValueError: If the id is not a string, is empty, begins or ends with a space, leads to another folder or drive,
            or has unprintable characters.
    """
    video_id = expect(value, str, location)
    if (
        not video_id.strip(".")  # "." and ".." are folders
        or any(mark in video_id for mark in "/\\:")
        or not video_id.isprintable()
        or video_id != video_id.strip()
    ):
        raise ValueError(f"{location}: video id {short_repr(video_id)} has to be a plain file name, without a folder")
    return video_id


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8: {error.reason}") from error
