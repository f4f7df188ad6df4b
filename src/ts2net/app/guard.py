"""Middleware that limits what clients can request and what the page can load.

Gradio's server can serve files by their paths, download addresses for a client and convert videos on request. The
page uses none of this, so only the routes that it uses are open. Gradio limits the size of each uploaded file, but not
the number of files, so the total size is limited here. Gradio answers an upload with the path of its file, which the
page sends back; here the path is replaced by its last two parts, which reveal nothing about the server.
"""

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .uploads import FILES_AT_ONCE, UploadLimits

_USED_BY_THE_PAGE = {
    "app_id",
    "cancel",
    "heartbeat",
    "login_check",
    "queue",
    "reset",
    "startup-events",
    "theme.css",
    "upload",
    "upload_progress",
    "user",
}

# Gradio needs inline scripts and eval for its templates. Nothing can be loaded from other sites.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
_HEADERS = {"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
_MAX_FORM_BYTES = 2**16  # of an upload request, besides its files
_MAX_BODY_BYTES = 2**18  # of any other request
_MAX_UPLOADS = 20  # of the maximum size, incoming and stored ones together
_ABANDONED_AFTER = 3600.0  # seconds after which an incomplete upload is removed


class Guard:
    """ASGI middleware that closes unused routes, limits the size of requests, and refuses requests from other sites.

    Args:
        app: The application.
        limits: Limits of uploads.
        folder: Folder in which Gradio stores uploads.
        frame_ancestors: Other sites that may show the page in a frame, such as `"https://huggingface.co"`.
    """

    def __init__(self, app: ASGIApp, limits: UploadLimits, folder: Path, frame_ancestors: Sequence[str] = ()) -> None:
        self._app = app
        self._folder = folder
        self._headers = _HEADERS | {"Content-Security-Policy": _POLICY + " ".join(["'self'", *frame_ancestors])}
        self._largest = limits.bytes
        self._max_upload_bytes = FILES_AT_ONCE * limits.bytes + _MAX_FORM_BYTES
        self._incoming = 0  # bytes that current uploads may still send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        async def refuse(status: int, sentence: str) -> None:
            is_api = scope["path"].startswith("/api/")
            refusal = JSONResponse({"error": sentence}, status) if is_api else PlainTextResponse(sentence, status)
            await refusal(scope, receive, send_with_headers)

        headers = Headers(scope=scope)
        route = re.search(r"gradio_api(?:/+([^/=]*))?", scope["path"])
        if route and route[1] not in _USED_BY_THE_PAGE:
            await refuse(404, "Not found")
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_cross_site(headers):
            await refuse(403, "A page of another site can't send anything here.")
            return

        is_upload = route is not None and route[1] == "upload" and scope["method"] == "POST"
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
            if received > most:  # possible if the request has no Content-Length
                raise MultiPartException(too_large)  # Gradio then removes the partial file
            return message

        if not is_upload:
            await self._app(scope, receive_bounded, send_with_headers)
            return
        size = most if length is None else length
        stored = await run_in_threadpool(self._stored_bytes)
        if stored + self._incoming + size > _MAX_UPLOADS * (self._largest + _MAX_FORM_BYTES):
            await _read_all(receive, most)  # a browser reads the response only after it has sent the request
            await refuse(503, "Too many uploads are waiting here. Try again in an hour.")
            return
        self._incoming += size
        try:
            await self._app(scope, receive_bounded, self._without_folders(send_with_headers))
        finally:
            self._incoming -= size

    def _without_folders(self, send: Send) -> Send:
        """Wrap `send` so that the response to an upload has file names, `<digest>/<name>`, instead of paths."""
        start: Message = {}
        body = b""

        async def send_names(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body", False):
                return
            if start["status"] == 200:
                paths = [Path(path).relative_to(self._folder) for path in json.loads(body)]
                body = json.dumps([path.as_posix() for path in paths]).encode()
                MutableHeaders(scope=start)["content-length"] = str(len(body))
            await send(start)
            await send({"type": "http.response.body", "body": body})

        return send_names

    def _stored_bytes(self) -> int:
        """Return the size of all stored uploads in bytes. Also remove abandoned partial files, which Gradio keeps."""
        total = 0
        for parent, _, names in os.walk(self._folder):
            for name in names:
                file = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):  # Gradio moves and removes files at the same time
                    status = file.stat()
                    is_part = file.parent == self._folder and name.startswith(tempfile.gettempprefix())
                    if is_part and status.st_mtime < time.time() - _ABANDONED_AFTER:
                        file.unlink()
                    else:
                        total += status.st_size
        return total


def _is_cross_site(headers: Headers) -> bool:
    """Whether the headers name a page of another site as the origin. Only browsers send such headers."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")  # old browsers, and any browser without TLS, send only this
    return origin is not None and origin.partition("://")[2] not in (
        headers.get("host"),
        headers.get("x-forwarded-host"),
    )


def _content_length(headers: Headers) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


async def _read_all(receive: Receive, most: int) -> None:
    """Read and discard the body of a request, up to `most` bytes."""
    received = 0
    while received <= most:
        message = await receive()
        received += len(message.get("body", b""))
        if not message.get("more_body", False):  # also if the client has disconnected
            return
