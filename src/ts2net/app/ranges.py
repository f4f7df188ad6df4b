"""HTTP range responses, which browsers need to jump to a moment of a video without loading all of it."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from starlette.responses import PlainTextResponse, Response, StreamingResponse

_CHUNK = 2**18


def range_response(file: BinaryIO, size: int, range_header: str | None, headers: dict[str, str]) -> Response:
    """Answer a request for a file or one range of it (RFC 9110, section 14).

    Args:
        file: Seekable file, which is closed after the response.
        size: Size of the file in bytes.
        range_header: `Range` header of the request. Anything but one range of bytes is ignored, as the RFC allows.
        headers: Headers of the response.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", range_header or "")
    if match is None or match[1] == match[2] == "":
        first, last, status = 0, size - 1, 200
    else:
        if match[1]:
            first, last = int(match[1]), min(int(match[2] or size), size - 1)
        else:  # the last `match[2]` bytes
            first, last = max(size - int(match[2]), 0), size - 1
        if first > last:
            file.close()
            return PlainTextResponse(
                "no such range", status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"}
            )
        status = 206
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_read(file, first, last - first + 1), status, headers)


def head_response(file: BinaryIO, size: int, headers: dict[str, str]) -> Response:
    """Answer a `HEAD` request for a file. The file is closed without being read."""
    file.close()
    return Response(headers={**headers, "Accept-Ranges": "bytes", "Content-Length": str(size)})


def _read(file: BinaryIO, position: int, size: int) -> Iterator[bytes]:
    with file:
        file.seek(position)
        while size > 0 and (data := file.read(min(size, _CHUNK))):
            size -= len(data)
            yield data
