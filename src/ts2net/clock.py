"""Formatting and parsing of times in a video: `20:08` for 1208 seconds."""

import re

_CLOCK = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)")


def clock(seconds: float, tenths: bool = True) -> str:
    """Format a time as hours, minutes and seconds, truncated and not rounded.

    Args:
        seconds: Seconds from the start of the video, not negative.
        tenths: Also show tenths of a second.

    Returns:
        75.28 as "1:15.2", or as "1:15" without tenths.
    """
    count = int(seconds * 10 + 1e-6)  # 0.3 is 2.9999999999999996 tenths in some sums
    minutes, rest = divmod(count, 600)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{rest // 10:02}" + (f".{rest % 10}" if tenths else "")


def parse_clock(text: str) -> float:
    """Parse a time: "20:08", "1:02:03.5", or a number of seconds such as "1208" or "75.25".

    Returns:
        Seconds.

    Raises:
        ValueError: If the text is not a time, or has 60 or more seconds or minutes after a colon.
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected seconds or a time such as 20:08, got {text!r}")
    hours, minutes, seconds = match.groups()
    if (minutes is not None and float(seconds) >= 60) or (hours is not None and int(minutes) >= 60):
        raise ValueError(f"expected less than 60 after each colon, got {text!r}")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)
