"""What an error says, in one line for a person, and whether it would be in vain to try again."""

import sys


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


def report_error(message: str) -> None:
    """Print an error to standard error."""
    print(f"error: {message}", file=sys.stderr)
