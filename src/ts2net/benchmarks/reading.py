"""Annotation files read strictly: what is wrong is said with its file and line, or its entry in a JSON file.

Notable here: an id becomes the name of files that are read and written later. So every id is checked in this one
place, where it comes in, and one that could lead out of its folder never becomes a row.
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

# How JSON calls what Python's types hold.
JSON_NAMES: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields where a line stands and the line, blank ones left out.

    Raises:
        ValueError: the file isn't UTF-8.
    """
    # Lines end at line feeds only: str.splitlines would also part a sentence at the rarer marks of Unicode.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields where a row stands and its fields by the names in the file's first line, which may name others too.

    Raises:
        ValueError: the file isn't UTF-8, a column is missing, or a row has another number of fields than the first.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = next(reader, [])
        if missing := [column for column in columns if column not in names]:
            raise ValueError(f"{path}:1: expected a column {missing[0]!r}, found {short_repr(names)}")
        for fields in reader:
            where = f"{path}:{reader.line_num}"
            if fields and len(fields) != len(names):
                raise ValueError(f"{where}: expected {len(names)} fields, one for each column, found {len(fields)}")
            if fields:
                yield where, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def read_json(path: Path, kind: type[T]) -> T:
    """Reads a JSON file whose outermost value is of `kind`.

    Raises:
        ValueError: the file isn't JSON, has another outermost value, or an object in it has a name twice.
    """

    def distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            (repeated, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{path}: {short_repr(repeated)} stands twice in one object")
        return value

    text = _text(path)
    try:
        value = json.loads(text, object_pairs_hook=distinct_names)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply") from error
    return expect(value, kind, str(path))


def expect(value: object, kind: type[T], where: str) -> T:
    """Returns a value of a JSON file if it is of `kind`.

    Raises:
        ValueError: it is of another.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{where}: expected {JSON_NAMES[kind]}, found {short_repr(value)}")
    return value


def field(entry: object, name: str, kind: type[T], where: str) -> T:
    """Returns what an object of a JSON file has under `name`.

    Raises:
        ValueError: it isn't an object, has no such name, or holds another kind of value under it.
    """
    entry = expect(entry, dict, where)
    if name not in entry:
        raise ValueError(f"{where}: expected a field {name!r}, found {short_repr(list(entry))}")
    return expect(entry[name], kind, f"{where}.{name}")


def distinct_ids(located: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Checks the ids that define a split.

    Args:
        located: where an id stands, and the id.

    Returns:
        Where each id stands, in the same order.

    Raises:
        ValueError: an id isn't fit to be one, or stands there twice.
    """
    places: dict[str, str] = {}
    for where, value in located:
        video_id = check_id(value, where)
        if video_id in places:
            raise ValueError(f"{where}: video id {video_id!r} is repeated, first at {places[video_id]}")
        places[video_id] = where
    return places


def check_id(value: object, where: str) -> str:
    """Returns an id, which has to be a plain file name on any system.

    Raises:
        ValueError: it is no string, empty, has a part that leads to another folder or drive, or doesn't print.
    """
    video_id = expect(value, str, where)
    if (
        not video_id.strip(".")  # "." and ".." are folders
        or any(mark in video_id for mark in "/\\:")
        or not video_id.isprintable()
        or video_id != video_id.strip()
    ):
        raise ValueError(f"{where}: video id {short_repr(video_id)} has to be a plain file name, without a folder")
    return video_id


def caption(value: object, where: str) -> str:
    """Returns a sentence with single spaces, as CLIP's tokenizer would make them.

    Raises:
        ValueError: it is no string, or there is nothing in it.
    """
    text = " ".join(expect(value, str, where).split())
    if not text:
        raise ValueError(f"{where}: expected a caption, found {short_repr(value)}")
    return text


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8: {error.reason}") from error
