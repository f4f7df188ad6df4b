"""Safe reader for pickles that hold only dictionaries, lists, tuples and strings.

Python's own reader calls any function that a pickle names, and allocates as much memory as the pickle requests. This
reader interprets the opcodes that build plain values, and raises an error for any other opcode.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MARK = object()
_IGNORED = {"PROTO", "FRAME", "STOP"}
_TEXTS = {
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # from Python 2
}


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds only dictionaries, lists, tuples and strings. Tuples become lists.

    Raises:
        ValueError: If the file is not a pickle, or holds any other value.
    """
    data = path.read_bytes()
    reader = _Reader()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            reader.follow(opcode.name, argument)
    except _UnknownOpcodeError as error:
        raise ValueError(
            f"{path}: holds more than dictionaries, lists and texts (opcode {error}), which is not read, because "
            f"reading it could run a stranger's code; save it as JSON, {path.stem}.json"
        ) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a pickle: {error}") from error
    if len(reader.stack) != 1:
        raise ValueError(f"{path}: not a pickle: {len(reader.stack)} values, expected one")
    return reader.stack[0]


class _UnknownOpcodeError(Exception):
    """Raised for an opcode that builds any other value."""


class _Reader:
    """Interpreter of opcodes, with the stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._builders: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self.stack.append(_MARK),
            "NONE": lambda _: self.stack.append(None),
            "POP": lambda _: self.stack.pop(),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append([]),
            "LIST": lambda _: self.stack.append(self._above_mark()),
            "TUPLE": lambda _: self.stack.append(self._above_mark()),
            "TUPLE1": lambda _: self.stack.append(self._top(1)),
            "TUPLE2": lambda _: self.stack.append(self._top(2)),
            "TUPLE3": lambda _: self.stack.append(self._top(3)),
            "DICT": lambda _: self._set_items({}, self._above_mark()),
            "APPEND": lambda _: self._extend(self._top(1)),
            "APPENDS": lambda _: self._extend(self._above_mark()),
            "SETITEM": lambda _: self._set_items(None, self._top(2)),
            "SETITEMS": lambda _: self._set_items(None, self._above_mark()),
            "MEMOIZE": lambda _: self._memo.__setitem__(len(self._memo), self.stack[-1]),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
            **dict.fromkeys(_TEXTS, self.stack.append),
        }

    def follow(self, name: str, argument: Any) -> None:
        """Execute an opcode."""
        if name in _IGNORED:
            return
        if name not in self._builders:
            raise _UnknownOpcodeError(name)
        self._builders[name](argument)

    def _put(self, index: Any) -> None:
        self._memo[int(index)] = self.stack[-1]

    def _get(self, index: Any) -> None:
        value = self._memo[int(index)]
        if not isinstance(value, str):  # a list may contain itself, or a small file expand to a huge value
            raise TypeError("a list or a dictionary is referenced more than once")
        self.stack.append(value)

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _above_mark(self) -> list[Any]:
        index = len(self.stack) - 1
        while self.stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise IndexError("the stack has no mark")
        values = self.stack[index + 1 :]
        del self.stack[index:]
        return values

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("values are added to something that is no list")
        target.extend(values)

    def _set_items(self, target: dict[Any, Any] | None, values: list[Any]) -> None:
        if target is None:
            target = self.stack[-1]
        else:
            self.stack.append(target)
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError("items are set in something that is no dictionary")
        target.update(zip(values[::2], values[1::2], strict=True))
