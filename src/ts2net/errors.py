"""What an error says, in one line for a person, and whether it would be in vain to try again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def one_line(error: BaseException) -> str:
    """Say what an error says in one line: its first sentence, without the advice that follows."""
    if type(error).__name__.startswith("StrictDataclass") and error.__cause__ is not None:
        return one_line(error.__cause__)  # a configuration's check, without the name of the function that checked
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = ""
    for line in lines:
        message = f"{message} {line}".strip()
        if not message.endswith(":"):  # else what it announces stands in the next line
            break
    # The message of most errors makes sense alone; a KeyError's is a bare key.
    return message if message and not isinstance(error, LookupError) else f"{type(error).__name__} {message}".strip()


def may_pass(error: BaseException) -> bool:
    """Whether what failed with a video is memory, rights or a network, so that another try may go well."""
    import av  # only where something failed

    # FFmpeg's own errors are about the video, of whatever kind they are besides.
    return not isinstance(error, (ValueError, av.FFmpegError))


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Say which of this package's extras to install, where a library is missing in the block.

    Args:
        extra: The extra that brings the library, such as `"train"`.
        purpose: What needs it, for the message, such as "evaluation".

    Raises:
        ImportError: Instead of Python's own error for the library.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = _missing_library(error)
        if library in (None, "ts2net"):  # a fault of this package
            raise
        raise ImportError(f"{purpose} needs the library {library}: pip install 'ts2net[{extra}]'") from error


def _missing_library(error: BaseException | None) -> str | None:
    """The library that an import lacks. transformers names it only in the cause of its own error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


def report_error(message: str) -> None:
    """Print an error to standard error."""
    print(f"error: {message}", file=sys.stderr)
