"""Errors as one-line messages, and whether a retry may succeed."""

import sys

from .lazy import missing_library


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line: its first line of content, without the advice that follows."""
    if type(error).__name__.startswith("StrictDataclass") and error.__cause__ is not None:
        return one_line(error.__cause__)  # the failed check of a configuration, without the name of its function
    if isinstance(error, ModuleNotFoundError):
        return missing_library(error) or str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = ""
    for line in lines:
        message = f"{message} {line}".strip()
        if not message.endswith(":"):  # otherwise the message continues in the next line
            break
    # Most messages make sense without the type, but the message of a KeyError is only the key.
    return message if message and not isinstance(error, LookupError) else f"{type(error).__name__} {message}".strip()


def may_pass(error: BaseException) -> bool:
    """Whether a video failed because of memory, permissions or a network, so that a retry may succeed."""
    import av  # slow to import, and only needed after a failure

    # FFmpeg's errors are caused by the video, although some are also OSErrors.
    return not isinstance(error, (ValueError, av.FFmpegError))


def report_error(message: str) -> None:
    """Print an error to standard error."""
    print(f"error: {message}", file=sys.stderr)
