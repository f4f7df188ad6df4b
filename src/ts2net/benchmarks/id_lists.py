"""Lists of video ids: a text file with one id per line, or a NumPy array of strings."""

from collections.abc import Iterator
from pathlib import Path

from .reading import read_lines


def read_ids(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the location and the value of each id.

    Args:
        path: The file. A name that ends with `.npy` is read as a NumPy array, without unpickling.

    Raises:
        ValueError: If the file is not UTF-8, or not an array of strings.
    """
    if path.suffix != ".npy":
        for location, line in read_lines(path):
            yield location, line.strip()
        return
    for number, value in enumerate(_strings(path)):
        yield f"{path}: [{number}]", value


def _strings(path: Path) -> list[str]:
    import numpy as np

    try:
        # Memory-mapped, because this fails if the header claims more data than the file has.
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        if "Python objects" in str(error):
            raise ValueError(
                f"{path}: holds Python objects, which are not read, because reading them could run a stranger's code; "
                "save it as an array of strings"
            ) from error
        raise ValueError(f"{path}: not a NumPy array: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise ValueError(f"{path}: expected a row of strings, found {array.dtype} {array.shape}")
    if array.dtype.kind == "U":
        return [str(value) for value in array]
    try:
        return [value.decode("utf-8") for value in array.tolist()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error.reason}") from error
