"""What several commands share of their options."""

from pathlib import Path

from ..files import check_writable


def check_output(option: str, file: Path, content: str) -> None:
    """Check that a file named by an option can be written, before any work is done for it.

    Args:
        option: Such as `--out`.
        file: Its value.
        content: What the file will be, such as "a PNG file".

    Raises:
        OSError: As in [`check_writable`]. It names the option.
    """
    try:
        check_writable(file, content)
    except OSError as error:
        raise type(error)(f"{option}: {error}") from None
