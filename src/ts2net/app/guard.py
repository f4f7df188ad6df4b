"""What of the server may be reached, and what a page of it may reach.

Notable here: Gradio's own server can hand out files by their paths, fetch addresses for a client and convert videos
on request. The page needs none of that, so everything of Gradio's interface but what the page uses is closed. Gradio
limits each file of an upload, but neither how many come at once nor how many wait to be used; here all are counted.
"""

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .uploads import UploadLimits

_USED_BY_THE_PAGE = {
    "app_id",
    "call",
    "cancel",
    "heartbeat",
    "info",
    "login_check",
    "queue",
    "reset",
    "run",
    "startup-events",
    "theme.css",
    "upload",
    "upload_progress",
    "user",
}

# Gradio's scripts stand in the page and evaluate its templates. Whatever they do, they can't load from elsewhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


_MAX_FORM_BYTES = 2**16  # around the one file of an upload
_MAX_BODY_BYTES = 2**20  # of any other request
_MAX_UPLOADS = 20  # of the largest size, arriving or waiting to be used
_BROKEN_OFF = 3600.0  # seconds after which an upload that isn't whole is taken for one that never will be


class Guard:
    """ASGI middleware: closes what the page doesn't use, bounds what is sent to it, and keeps other sites out.

    Args:
        app: What it guards.
        limits: Of uploads.
        folder: Where Gradio puts them.
    """

    def __init__(self, app: ASGIApp, limits: UploadLimits, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._max_upload_bytes = limits.bytes + _MAX_FORM_BYTES
        self._arriving = 0  # bytes of uploads that may yet come

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        async def refuse(status: int, sentence: str) -> None:
            await PlainTextResponse(sentence, status)(scope, receive, send_with_headers)

        headers = Headers(scope=scope)
        asked = re.search(r"gradio_api(?:/+([^/=]*))?", scope["path"])
        if asked and asked[1] not in _USED_BY_THE_PAGE:
            await refuse(404, "Not found")
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _comes_from_elsewhere(headers):
            await refuse(403, "A page of another site can't send anything here.")
            return

        is_upload = asked is not None and asked[1] == "upload" and scope["method"] == "POST"
        most = self._max_upload_bytes if is_upload else _MAX_BODY_BYTES
        length = _content_length(headers)
        too_large = f"The request exceeds the maximum allowed size of {most} bytes."
        if length is not None and length > most:
            await refuse(413, too_large)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:  # no length was given
                raise MultiPartException(too_large)  # upon which Gradio removes what has come
            return message

        if not is_upload:
            await self._app(scope, receive_bounded, send_with_headers)
            return
        coming = most if length is None else length
        waiting = await run_in_threadpool(self._waiting)
        if waiting + self._arriving + coming > _MAX_UPLOADS * self._max_upload_bytes:
            await _read_all(receive, most)  # else a browser that is still sending doesn't read why not
            await refuse(503, "Too many uploads are waiting here. Try again in an hour.")
            return
        self._arriving += coming
        try:
            await self._app(scope, receive_bounded, send_with_headers)
        finally:
            self._arriving -= coming

    def _waiting(self) -> int:
        """Bytes of the uploads that are here; those that were broken off, which Gradio forgets, are removed."""
        total = 0
        for parent, _, names in os.walk(self._folder):
            for name in names:
                file = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):  # Gradio moves and removes them meanwhile
                    status = file.stat()
                    is_part = file.parent == self._folder and name.startswith(tempfile.gettempprefix())
                    if is_part and status.st_mtime < time.time() - _BROKEN_OFF:
                        file.unlink()
                    else:
                        total += status.st_size
        return total


def _comes_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another site. It says so itself; programs needn't say anything."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")  # of browsers that say no more, and to addresses without TLS
    return origin is not None and origin.partition("://")[2] not in (
        headers.get("host"),
        headers.get("x-forwarded-host"),
    )


def _content_length(headers: Headers) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


async def _read_all(receive: Receive, most: int) -> None:
    """Read a request's body, which is dropped, up to so many bytes."""
    received = 0
    while received <= most:
        message = await receive()
        received += len(message.get("body", b""))
        if not message.get("more_body", False):  # nor has one that says that nobody is there any more
            return
